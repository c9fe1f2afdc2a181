"""How large the API lets claims and classes be.

Purpose: an object that no API server would have stored is refused by name before anybody works through it.

Flow: `check_claim` before a claim is read; `class_over_limit` when a class is.

Limits: sizes only, those of `resource.k8s.io/v1` in 1.34 to 1.37, which are the same; lengths are of UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from driver.allocation.errors import OverLimitError
from driver.allocation.models import JSON

MAX_REQUESTS = 32
MAX_SUB_REQUESTS = 8
MAX_CONSTRAINTS = 32
MAX_CONFIGS = 32
MAX_SELECTORS = 32
MAX_TOLERATIONS = 16
MAX_EXPRESSION = 10 * 1024
MAX_PARAMETERS = 10 * 1024


def check_claim(devices: JSON, path: str) -> None:
    """Look at the sizes in `spec.devices` of a claim.

    Args:
        devices: The field's content.
        path: Its path, with the claim's name in front.

    Raises:
        OverLimitError: Something is larger than the API allows.
    """
    for where, count, limit, what in _of_claim(devices):
        if count > limit:
            raise OverLimitError(
                f"{count} {what} are more than the {limit} that the API allows",
                field=f"{path}.{where}",
                remedy="Write fewer, or divide the claim.",
            )


def class_over_limit(spec: JSON) -> str:
    """Say what in the spec of a DeviceClass is larger than the API allows, "" if nothing is."""
    sizes = [*_selectors(spec, "spec"), *_configs(spec, "spec")]
    for where, count, limit, what in sizes:
        if count > limit:
            return f"{where}: {count} {what} are more than the {limit} that the API allows"
    return ""


_Size = tuple[str, int, int, str]


def _of_claim(devices: JSON) -> Iterator[_Size]:
    requests: Sequence[Any] = devices.get("requests") or ()
    yield "requests", len(requests), MAX_REQUESTS, "requests"
    for place, request in enumerate(requests):
        where = f"requests[{place}]"
        if request.get("exactly"):
            yield from _of_option(request["exactly"], f"{where}.exactly")
        options = request.get("firstAvailable") or ()
        yield f"{where}.firstAvailable", len(options), MAX_SUB_REQUESTS, "sub-requests"
        for number, option in enumerate(options):
            yield from _of_option(option, f"{where}.firstAvailable[{number}]")
    constraints = devices.get("constraints") or ()
    yield "constraints", len(constraints), MAX_CONSTRAINTS, "constraints"
    for place, constraint in enumerate(constraints):
        names = constraint.get("requests") or ()
        yield f"constraints[{place}].requests", len(names), MAX_REQUESTS, "names of requests"
    for where, count, limit, what in _configs(devices, ""):
        yield where.lstrip("."), count, limit, what


def _of_option(option: JSON, where: str) -> Iterator[_Size]:
    yield from _selectors(option, where)
    yield f"{where}.tolerations", len(option.get("tolerations") or ()), MAX_TOLERATIONS, "tolerations"


def _selectors(holder: JSON, where: str) -> Iterator[_Size]:
    selectors = holder.get("selectors") or ()
    yield f"{where}.selectors", len(selectors), MAX_SELECTORS, "selectors"
    for place, selector in enumerate(selectors):
        expression = (selector.get("cel") or {}).get("expression") or ""
        if isinstance(expression, str):
            size = len(expression) if expression.isascii() else len(expression.encode(errors="replace"))
            yield f"{where}.selectors[{place}].cel.expression", size, MAX_EXPRESSION, "bytes"


def _configs(holder: JSON, where: str) -> Iterator[_Size]:
    configs = holder.get("config") or ()
    yield f"{where}.config", len(configs), MAX_CONFIGS, "configs"
    for place, config in enumerate(configs):
        names = config.get("requests") or ()
        yield f"{where}.config[{place}].requests", len(names), MAX_REQUESTS, "names of requests"
        parameters = (config.get("opaque") or {}).get("parameters")
        if parameters is not None:
            size = len(
                json.dumps(parameters, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
            )
            yield f"{where}.config[{place}].opaque.parameters", size, MAX_PARAMETERS, "bytes"
