"""The patch of a pod: RFC 6902, nothing but what changes, so that fields that we do not know survive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from driver.conversion.containers import Container

JSON = dict[str, Any]


def pointer(*parts: str) -> str:
    """A JSON pointer."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def without_amounts(container: Container, names: Iterable[str]) -> list[JSON]:
    """Takes names out of a container's limits and requests; what is empty then goes too."""
    patch: list[JSON] = []
    for part in ("limits", "requests"):
        present = container.amounts(part)
        gone = [name for name in present if name in names]
        if gone and len(gone) == len(present):
            patch.append({"op": "remove", "path": _of(container, "resources", part)})
        else:
            patch += [{"op": "remove", "path": _of(container, "resources", part, name)} for name in gone]
    return patch


def with_claims(container: Container, *, claim: str, requests: Sequence[str]) -> list[JSON]:
    """Adds requests of a claim to a container."""
    claims = [{"name": claim, "request": one} for one in requests]
    return _appended(
        container.document["resources"], "claims", claims, path=_of(container, "resources", "claims")
    )


def with_claim(spec: Mapping[str, Any], *, claim: str, template: str) -> list[JSON]:
    """Adds a claim to a pod."""
    added = [{"name": claim, "resourceClaimTemplateName": template}]
    return _appended(spec, "resourceClaims", added, path=pointer("spec", "resourceClaims"))


def with_mark(metadata: Mapping[str, Any], *, kind: str, key: str, value: str) -> JSON:
    """Adds a label or an annotation."""
    if metadata.get(kind):
        return {"op": "add", "path": pointer("metadata", kind, key), "value": value}
    return {"op": "add", "path": pointer("metadata", kind), "value": {key: value}}


def _appended(holder: Mapping[str, Any], name: str, added: Sequence[JSON], *, path: str) -> list[JSON]:
    if holder.get(name):
        return [{"op": "add", "path": f"{path}/-", "value": one} for one in added]
    return [{"op": "add", "path": path, "value": list(added)}]


def _of(container: Container, *parts: str) -> str:
    _, kind, index = container.path.replace("[", ".").replace("]", "").split(".")
    return pointer("spec", kind, index, *parts)
