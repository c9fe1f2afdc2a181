"""What a converted pod asked for before, written into an annotation and read again.

Purpose: the controller makes a pod's claim templates after the pod; it works them out from this record and
from nothing else that the pod says of its claim.

Limits: at most 16 KiB. Whoever writes such an annotation by hand gets what conversion would have made of a
pod with these amounts, or an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from driver.conversion.asks import Amounts
from driver.conversion.containers import containers_of
from driver.conversion.errors import ConversionError, ConvertedPodError
from driver.conversion.marks import CONVERTED_ANNOTATION

_FIELD = f"metadata.annotations[{CONVERTED_ANNOTATION}]"
_REMEDY = "Make the pod anew from what it was before: without this annotation."
_MOST = 16 * 1024
_TEMPLATE = re.compile(r"dragoman-[0-9a-f]{20}")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a pod asked for.

    Attributes:
        template: Name of the claim template that it names.
        asked: Names and amounts by container.
    """

    template: str
    asked: Mapping[str, Amounts]


def written(record: Record) -> str:
    """The annotation's text.

    Raises:
        ConversionError: It would be too long.
    """
    document = {"template": record.template, "containers": record.asked}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if len(text) > _MOST:
        raise ConversionError(
            f"What the pod asks for takes {len(text)} bytes to write down; {_MOST} are possible.",
            field="spec.containers",
            remedy="Ask in fewer containers.",
        )
    return text


def read(pod: Mapping[str, Any], *, known: Callable[[str], bool]) -> Record:
    """Reads the annotation of a converted pod.

    Args:
        pod: The pod.
        known: Whether an extended resource is converted.

    Raises:
        ConvertedPodError: There is none, or it is not what conversion writes.
    """
    text = ((pod.get("metadata") or {}).get("annotations") or {}).get(CONVERTED_ANNOTATION)
    if not isinstance(text, str) or len(text) > _MOST:
        raise _wrong("The pod has no such annotation" if text is None else "The annotation is too long")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("The annotation is not JSON") from None
    if not isinstance(document, Mapping) or set(document) != {"template", "containers"}:
        raise _wrong("The annotation is not what conversion writes")
    template, asked = document["template"], document["containers"]
    if not isinstance(template, str) or not _TEMPLATE.fullmatch(template):
        raise _wrong("The annotation names no template of conversion's")
    spec = pod.get("spec") or {}
    named = [one.get("resourceClaimTemplateName") for one in spec.get("resourceClaims") or ()]
    if template not in named:
        raise _wrong(f"The pod does not name the template {template}")
    names = {one.name for one in containers_of(spec)}
    if not isinstance(asked, Mapping) or not names.issuperset(asked):
        raise _wrong("The annotation is about containers that the pod has not")
    for amounts in asked.values():
        if not isinstance(amounts, Mapping) or not all(map(known, amounts)):
            raise _wrong("The annotation has names that are not converted")
    return Record(template=template, asked=asked)


def _wrong(message: str) -> ConvertedPodError:
    return ConvertedPodError(f"{message}.", field=_FIELD, remedy=_REMEDY)
