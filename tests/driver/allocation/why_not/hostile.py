"""Claims that nobody sensible writes."""

from __future__ import annotations

from typing import Any

from tests.driver.allocation.builders import claim, request

JSON = dict[str, Any]
MODEL = 'device.attributes["dragoman.dev"].model'

HOSTILE: tuple[JSON, ...] = (
    {},
    {"spec": 7},
    {"spec": {"devices": {"requests": 7}}},
    claim(request(ask={"memory": "-1"})),
    claim(request(ask={"memory": "9" * 2000})),
    claim(request(ask={"x" * 500: "1"})),
    claim(request(ask={f"c{k}": "1" for k in range(200)})),
    claim(request(count=10**9)),
    claim(request(selectors=["("])),
    claim(request(selectors=["(" * 300 + "true" + ")" * 300])),
    claim(request(selectors=[" && ".join(["true"] * 1200)])),
    claim(request(selectors=[" && ".join([f'{MODEL} != "{k}"' for k in range(150)])])),
    claim(request(selectors=[" || ".join([f'{MODEL} == "{k}"' for k in range(150)])])),
    claim(request(selectors=["\ud800"])),
    claim(request(selectors=["true // " + "x" * 9000])),
    claim(*(request(f"r{k}", ask={"memory": "41Gi"}) for k in range(32))),
    claim(
        *(request(f"r{k}", ask={"memory": "1Mi"}) for k in range(12)),
        constraints=[{"distinctAttribute": "dragoman.dev/uuid"}],
    ),
    claim(request(), constraints=[{"matchAttribute": "x" * 5000}] * 32),
    claim(request(tolerations=[{"key": "k" * 5000, "operator": "Exists"}] * 16)),
)
