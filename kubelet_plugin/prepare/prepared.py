"""What the kubelet, the claim's status and Events are told of a prepared claim.

Flow: a record -> `prepared_as` -> the kubelet's answer (`kubelet_plugin.server`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubelet_plugin.prepare.records import ClaimRecord


@dataclass(frozen=True, kw_only=True)
class PreparedDevice:
    """One device of a prepared claim, as the kubelet wants it.

    Attributes:
        request: Name of the request, without a subrequest.
        pool: Name of the pool.
        device: Name of the card.
        cdi_id: The CDI device.
        share_id: "" where the result has none.
    """

    request: str
    pool: str
    device: str
    cdi_id: str
    share_id: str


@dataclass(frozen=True, kw_only=True)
class PreparedClaim:
    """The answer for one claim; no devices where the allocation names none of this node."""

    devices: tuple[PreparedDevice, ...] = ()
    warnings: tuple[str, ...] = ()


def prepared_as(record: ClaimRecord) -> PreparedClaim:
    """The answer for a claim that is prepared as its record says."""
    return PreparedClaim(
        devices=tuple(
            PreparedDevice(
                request=item.share.base_request,
                pool=item.pool,
                device=item.share.device,
                cdi_id=item.cdi_id,
                share_id=item.share.share_id,
            )
            for item in record.shares
        ),
        warnings=record.warnings,
    )
