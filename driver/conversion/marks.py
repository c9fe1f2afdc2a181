"""What conversion writes into a pod, and what keeps a pod from being converted.

Flow: the webhook's selectors and the controller's informer use the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from driver.cards import DRIVER_NAME

CONVERTED_LABEL: Final = f"{DRIVER_NAME}/converted"
"""Label, with the value `true`, of pods that were converted."""
CONVERTED_ANNOTATION: Final = f"{DRIVER_NAME}/converted-from"
"""Annotation with what a converted pod asked for before, as JSON."""
OPT_OUTS: Final[tuple[tuple[str, str], ...]] = (
    (f"{DRIVER_NAME}/convert", "false"),
    ("hami.io/webhook", "ignore"),
)
"""Labels of pods, and of namespaces, that are left as they are; HAMi's own counts too."""


def opted_out(labels: Mapping[str, object] | None) -> bool:
    """Whether the labels of a pod or namespace say that its pods are not to be converted."""
    return labels is not None and any(labels.get(key) == value for key, value in OPT_OUTS)
