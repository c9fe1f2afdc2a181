"""Operations of RFC 6902 on annotations.

Limits: pure; knows no kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.kube.client import JSON


def removed(path: str) -> JSON:
    """The operation that takes something out."""
    return {"op": "remove", "path": path}


def annotated(holder: Mapping[str, Any], key: str, value: str, *, path: str) -> list[JSON]:
    """The operations that set an annotation.

    Args:
        holder: What has the metadata, as it is now.
        key: The annotation.
        value: What it says.
        path: Where the metadata are.
    """
    metadata = holder.get("metadata")
    if not metadata:
        return [{"op": "add", "path": path, "value": {"annotations": {key: value}}}]
    if not metadata.get("annotations"):
        return [{"op": "add", "path": f"{path}/annotations", "value": {key: value}}]
    return [{"op": "add", "path": f"{path}/annotations/{_escaped(key)}", "value": value}]


def annotation_removed(key: str, *, path: str) -> JSON:
    """The operation that takes an annotation out which is there."""
    return removed(f"{path}/annotations/{_escaped(key)}")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
