"""What admission's answers depend on, as seams: the webhook and `hack/replay admit` fill them differently.

Limits: Protocols and one dataclass; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.by_turns import AtOnce, Beside
from driver.errors import DragomanError
from driver.kube.client import JSON


class Converted(Protocol):
    """A pod that asked for extended resources, and asks for claims now."""

    @property
    def patch(self) -> Sequence[JSON]:
        """Operations of RFC 6902 on the pod as it was sent."""

    @property
    def templates(self) -> Sequence[JSON]:
        """The ResourceClaimTemplates that it names, to be made once the pod is stored."""

    @property
    def warnings(self) -> Sequence[str]:
        """What its author should know."""

    def in_the_pod(self, field: str) -> str:
        """The path in the pod for a path in its template."""

    def told_of_the_pod(self, sentence: str) -> str:
        """A sentence about the template, with the path in the pod in front."""


class Convert(Protocol):
    """Converts a pod."""

    def __call__(self, pod: Mapping[str, Any], *, identity: str) -> Converted | None:
        """What becomes of a pod; None if it asks for none of our resources.

        Args:
            pod: As it was sent.
            identity: UID of the request, by which names are made that no other pod has.

        Raises:
            DragomanError: It cannot be converted.
        """


class Findings(Protocol):
    """What is wrong with an object."""

    @property
    def errors(self) -> Sequence[DragomanError]:
        """Why it must not be stored."""

    @property
    def warnings(self) -> Sequence[str]:
        """What its author should know."""


class Validate(Protocol):
    """Looks for what cannot work in an object."""

    def __call__(
        self, kind: str, found: Mapping[str, Any], *, old: Mapping[str, Any] | None = None
    ) -> Findings:
        """What is wrong with an object of a kind; `old` is what is stored of it."""


class Reserve(Protocol):
    """Holds a claim against the quotas of its namespace."""

    async def reserve(
        self,
        *,
        namespace: str,
        uid: str,
        name: str,
        claim: Mapping[str, Any],
        dry_run: bool,
        request: str = "",
    ) -> None:
        """Takes what the claim asks for out of the quotas; nothing if it asks for no card of ours.

        `request` is the UID of the request, for whoever looks for it in a log.

        Raises:
            DragomanError: A quota does not have it, or cannot be asked.
        """


async def _nothing_to_advise(_namespace: str, _specs: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What an answer depends on.

    Attributes:
        is_ours: Whether a DeviceClass of this name picks only devices of our driver.
        amounts_kept: Whether the API server keeps the amounts that claims ask for; None if not known yet,
            which is taken for no.
        stamps: Whether claims and templates are stamped, and DeviceClasses carry what old servers drop: so it
            is in mode controller.
        class_is_ours: Whether a DeviceClass picks only devices of our driver.
        convert: Converts pods; None where pods stay as they are.
        opted_out: Whether pods of a namespace stay as they are. The API server knows the labels of namespaces
            and asks only about the others, so the webhook itself need not.
        validate: Looks for what cannot work; None where nobody looks.
        quotas: Holds claims against quotas; None where there are none.
        advise: What quotas will say, later, to claims of these specs in a namespace: sentences.
        beside: Where `validate` is called.
    """

    is_ours: Callable[[str], bool]
    amounts_kept: Callable[[], bool | None]
    stamps: bool = True
    class_is_ours: Callable[[Mapping[str, Any]], bool] = lambda _document: False
    convert: Convert | None = None
    opted_out: Callable[[str], bool] = lambda _namespace: False
    validate: Validate | None = None
    quotas: Reserve | None = None
    advise: Callable[[str, Sequence[Mapping[str, Any]]], Awaitable[Sequence[str]]] = _nothing_to_advise
    beside: Beside = field(default_factory=AtOnce)
