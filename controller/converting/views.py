"""What is kept of converted pods."""

from __future__ import annotations

from dataclasses import dataclass

from driver.kube.client import JSON


@dataclass(frozen=True, slots=True)
class ConvertedPod:
    """A converted pod that waits for its claims.

    Attributes:
        uid: Its UID.
        going: Whether it is being deleted.
    """

    uid: str
    going: bool


def converted_pod(document: JSON) -> ConvertedPod:
    """Projects a pod; its amounts are read again when its turn comes."""
    metadata = document["metadata"]
    return ConvertedPod(uid=str(metadata.get("uid") or ""), going=bool(metadata.get("deletionTimestamp")))
