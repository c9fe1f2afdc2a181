"""ShareAllocation: what our allocator gave, written into the allocation itself.

Purpose: an API server without the feature gate DRAConsumableCapacity (1.34 and 1.35 by default) drops
`shareID` and `consumedCapacity` from a result. What was given then stands in
`status.allocation.devices.config[].opaque.parameters`, which such a server keeps (tried on 1.34.4).

Flow: the allocator writes one document for each claim with `config_entry`; the node reads it with
`shares_given`, for results without a shareID only.

Limits: users can write a claim's spec and a class, from where kube-scheduler copies configuration into the
allocation. So the document counts only where it cannot have come from there: `refuse_in_spec` refuses a
claim whose spec holds one, and an entry that came from a class is refused when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from driver.api.base import API_VERSION, Document, decode
from driver.cards import DRIVER_NAME
from driver.errors import ConfigError

KIND = "ShareAllocation"

JSON = dict[str, Any]


class GivenShare(Document):
    """What one result of the allocation was given."""

    request: str = Field(
        min_length=1, max_length=127, description="The result's request, `name` or `name/sub`."
    )
    pool: str = Field(min_length=1, max_length=253, description="The result's pool.")
    device: str = Field(min_length=1, max_length=63, description="The result's device.")
    memory: str = Field(min_length=1, max_length=64, description="Memory of the share, such as `4Gi`.")
    cores: str = Field(
        min_length=1,
        max_length=64,
        description="Compute of the share in percent, such as `30`; `0` is no cap.",
    )


class ShareAllocation(Document):
    """What was given to a claim."""

    api_version: Literal["dragoman.dev/v1alpha1"] = API_VERSION
    kind: Literal["ShareAllocation"] = "ShareAllocation"
    shares: tuple[GivenShare, ...] = Field(
        max_length=32, description="One entry for each result of this driver."
    )


def config_entry(shares: Sequence[GivenShare]) -> JSON:
    """The entry of `status.allocation.devices.config` that says what was given."""
    parameters = ShareAllocation(shares=tuple(shares)).model_dump(mode="json", by_alias=True)
    # Sorted: some clients sort opaque parameters when they write a claim's status, and a changed text is
    # refused by the API server as a change of an immutable field.
    sorted_parameters = json.loads(json.dumps(parameters, sort_keys=True))
    return {"source": "FromClaim", "opaque": {"driver": DRIVER_NAME, "parameters": sorted_parameters}}


def is_share_allocation(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of some `config` is a ShareAllocation of ours, well made or not."""
    opaque = entry.get("opaque")
    if not isinstance(opaque, Mapping) or opaque.get("driver") != DRIVER_NAME:
        return False
    parameters = opaque.get("parameters")
    return isinstance(parameters, Mapping) and parameters.get("kind") == KIND


def refuse_in_spec(entries: Sequence[Mapping[str, Any]], *, field: str) -> None:
    """Refuses a claim, template or class that brings a ShareAllocation of its own.

    Args:
        entries: Its `config`.
        field: Path of `entries`, for the error.

    Raises:
        ConfigError: It does.
    """
    for index, entry in enumerate(entries):
        if is_share_allocation(entry):
            raise ConfigError(
                "A ShareAllocation says what was given; only the allocator writes it.",
                field=f"{field}[{index}].opaque.parameters.kind",
                remedy="Leave it out, and ask for memory and cores in capacity.requests.",
            )


def shares_given(
    entries: Sequence[Mapping[str, Any]], *, field: str
) -> Mapping[tuple[str, str, str], GivenShare]:
    """What the allocator gave, by request, pool and device.

    Args:
        entries: `status.allocation.devices.config`.
        field: Path of `entries` in the claim, for errors.

    Raises:
        ConfigError: A ShareAllocation does not decode, came from a class, or names one share twice.
    """
    found: dict[tuple[str, str, str], GivenShare] = {}
    for index, entry in enumerate(entries):
        if not is_share_allocation(entry):
            continue
        if entry.get("source") != "FromClaim":
            refuse_in_spec([entry], field=field)
        where = f"{field}[{index}].opaque.parameters"
        for share in decode(ShareAllocation, entry["opaque"]["parameters"], field=where).shares:
            key = (share.request, share.pool, share.device)
            if key in found:
                raise ConfigError(
                    f"Device {share.device} is given to request {share.request} twice.",
                    field=f"{where}.shares",
                )
            found[key] = share
    return found
