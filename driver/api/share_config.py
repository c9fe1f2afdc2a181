"""ShareConfig: what a claim's author, or a class, says about how a share is held.

Source of the place: `spec.devices.config[].opaque.parameters` of a ResourceClaim or DeviceClass with
`driver: dragoman.dev` (Kubernetes type `OpaqueDeviceConfiguration`, at most 10 KiB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from driver.api.base import API_VERSION, Document, decode
from driver.api.share_allocation import is_share_allocation
from driver.cards import DRIVER_NAME, IsolationLevel
from driver.errors import ConfigError, shown


class CorePolicy(StrEnum):
    """Whether a cap on compute is put in force."""

    FORCE = "force"
    DEFAULT = "default"
    DISABLE = "disable"


class Priority(StrEnum):
    """Whether a share goes before others of its card, or lets them go first."""

    HIGH = "high"
    LOW = "low"


class OnUnavailable(StrEnum):
    """What happens if a limit cannot be put in force."""

    FAIL_CLOSED = "FailClosed"
    FAIL_OPEN = "FailOpen"


class MinimumIsolation(Document):
    """The weakest isolation that the share accepts, for each dimension."""

    memory: IsolationLevel | None = Field(
        default=None, description="Weakest method that may hold the memory limit."
    )
    cores: IsolationLevel | None = Field(
        default=None, description="Weakest method that may hold the cap on compute."
    )


class AskedAmounts(Document):
    """The amounts that a request asks for, as in `capacity.requests` of the request itself."""

    memory: str | None = Field(
        default=None, min_length=1, max_length=64, description="Memory of the share, such as `4Gi`."
    )
    cores: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Compute of the share in percent, such as `30`.",
    )


class AskedCapacity(Document):
    """What a request asks for."""

    requests: AskedAmounts = Field(description="Amounts by name, for each device of the request.")


class AskedConstraint(Document):
    """A constraint of a claim, as in `constraints` of the claim itself."""

    requests: tuple[str, ...] = Field(
        default=(), max_length=32, description="Requests that it is about; all if there are none."
    )
    distinct_attribute: str = Field(
        min_length=1, max_length=128, description="Attribute in which their devices have to differ."
    )


class ShareConfig(Document):
    """How a share is held."""

    api_version: Literal["dragoman.dev/v1alpha1"] = API_VERSION
    kind: Literal["ShareConfig"] = "ShareConfig"
    core_policy: CorePolicy = Field(
        default=CorePolicy.FORCE,
        description="force: the cap on compute always holds. default: where the preload library holds it, it "
        "holds while another share computes on the card, else like force. disable: the share has no cap.",
    )
    priority: Priority | None = Field(
        default=None,
        description="high: while the share computes, those of low priority on its card wait, where a policy "
        "sets allowHighPriority. low: it waits, where the preload library holds its cap on compute. Not set: "
        "as low.",
    )
    minimum_isolation: MinimumIsolation = Field(
        default=MinimumIsolation(), description="Refuse the share where only weaker methods are available."
    )
    on_unavailable: OnUnavailable = Field(
        default=OnUnavailable.FAIL_CLOSED,
        description="FailClosed: no limit, no container. FailOpen: start it and say so in the status.",
    )
    capacity: AskedCapacity | None = Field(
        default=None,
        description="What is asked for, where the API server drops `capacity` from requests (1.34 and 1.35). "
        "The admission webhook writes it; write `capacity.requests` in the request instead.",
    )
    constraints: tuple[AskedConstraint, ...] = Field(
        default=(),
        max_length=32,
        description="Constraints with `distinctAttribute`, where the API server drops that and then refuses "
        "what is left (1.35). The admission webhook writes them; write `constraints` in the claim instead.",
    )

    @property
    def only_asks(self) -> bool:
        """Whether it says how much is asked for, and nothing about how the share is held."""
        asks = self.capacity is not None or bool(self.constraints)
        return asks and self.model_fields_set <= {"api_version", "kind", "capacity", "constraints"}


def config_for(entries: Sequence[Mapping[str, Any]], *, request: str, field: str) -> ShareConfig:
    """The ShareConfig in force for one result of an allocation.

    Args:
        entries: `status.allocation.devices.config`: classes first, then the claim; a later entry wins. One
            that only says how much is asked for does not count: it must not undo what another one says.
        request: The result's request, `name` or `name/subrequest`.
        field: Path of `entries` in the claim, for errors.

    Raises:
        ConfigError: An entry of ours does not decode. Entries of other drivers, and what the allocator wrote
            (`ShareAllocation`), are passed over.
    """
    found = ShareConfig()
    base = request.partition("/")[0]
    for index, entry in enumerate(entries):
        opaque = entry.get("opaque")
        if not isinstance(opaque, Mapping) or opaque.get("driver") != DRIVER_NAME:
            continue
        if is_share_allocation(entry):
            continue
        names = entry.get("requests") or []
        if names and request not in names and base not in names:
            continue
        said = decode_share_config(opaque.get("parameters"), field=f"{field}[{index}].opaque.parameters")
        if not said.only_asks:
            found = said
    return found


def decode_share_config(parameters: Any, *, field: str) -> ShareConfig:
    """Decodes opaque parameters.

    Raises:
        ConfigError: With the field's path and the remedy.
    """
    if not isinstance(parameters, Mapping):
        raise ConfigError("Opaque parameters have to be an object.", field=field)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", "ShareConfig")):
        if parameters.get(key) != wanted:
            raise ConfigError(
                f"{shown(parameters.get(key))} is not known here.",
                field=f"{field}.{key}",
                remedy=f"Write {wanted}.",
            )
    return decode(ShareConfig, parameters, field=field)
