"""What `hack/replay admit` is told of the controller's settings: a document of the file, or flags.

Flow: `kind: ReplaySettings` in the file, then flags over it.

Limits: `conversion` is what the chart's `controller.conversion` is, with the same defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field

from controller.converting.settings import conversion_settings
from driver.api.base import Document, decode
from driver.conversion import ConversionSettings

KIND = "ReplaySettings"
DEFAULT_RELEASE = "1.36"
RELEASES = ("1.34", "1.35", "1.36", "1.37")
_FIRST_NATIVE = (1, 36)


class _Settings(Document):
    """`spec` of a ReplaySettings document."""

    release: Literal["1.34", "1.35", "1.36", "1.37"] | None = None
    mode: Literal["native", "controller"] | None = None
    amounts_kept: bool | None = None
    cards_may_come: bool = False
    conversion: dict[str, Any] | None = Field(default_factory=dict)
    excluded_namespaces: tuple[str, ...] = ("kube-system",)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """The settings of a replay.

    Attributes:
        release: Kubernetes release of the API server; "" for the default.
        mode: Who allocates: `native` or `controller`; "" for what the release suggests.
        amounts_kept: Whether the API server keeps amounts of requests; None for what the release suggests.
        cards_may_come: Whether larger cards than there are may come.
        conversion: How pods are converted; None where they stay as they are.
        excluded_namespaces: Namespaces whose pods are never sent to the webhook.
    """

    release: str = ""
    mode: str = ""
    amounts_kept: bool | None = None
    cards_may_come: bool = False
    conversion: ConversionSettings | None = field(default_factory=ConversionSettings)
    excluded_namespaces: frozenset[str] = frozenset({"kube-system"})

    def complete(self, *, release: str = "", mode: str = "") -> ReplaySettings:
        """The settings with nothing left open; what is given here counts most."""
        release = release or self.release or DEFAULT_RELEASE
        major, minor = release.split(".")
        native = (int(major), int(minor)) >= _FIRST_NATIVE
        kept = native if self.amounts_kept is None else self.amounts_kept
        mode = mode or self.mode or ("native" if native else "controller")
        # Our own allocator gives cards to pods that were made for a node; kube-scheduler never sees them.
        how = self.conversion and replace(self.conversion, named_nodes=mode == "controller")
        return replace(self, release=release, mode=mode, amounts_kept=kept, conversion=how)


def read_settings(spec: Mapping[str, Any]) -> ReplaySettings:
    """Reads `spec` of a ReplaySettings document.

    Raises:
        ConfigError: It says what is not known.
    """
    said = decode(_Settings, spec, field="spec")
    text = "" if said.conversion is None else json.dumps(said.conversion)
    return ReplaySettings(
        release=said.release or "",
        mode=said.mode or "",
        amounts_kept=said.amounts_kept,
        cards_may_come=said.cards_may_come,
        conversion=conversion_settings(text),
        excluded_namespaces=frozenset(said.excluded_namespaces),
    )
