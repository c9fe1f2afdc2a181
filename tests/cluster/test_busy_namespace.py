"""Claims that are made to take long hold up their own namespace, and neither others nor the Lease."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from driver.kube.resources import LEASES, RESOURCE_CLAIMS
from tests.cluster.support.api import JSON, NAMESPACES
from tests.cluster.support.manifests import claim, request
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster

NUMBERS = "[1,2,3,4,5,6,7,8,9]"
UUID = 'device.attributes["dragoman.dev"].uuid'
AT_ONCE, FOR_S = 12, 12.0


def _costly(number: int) -> JSON:
    """A claim of which each selector costs as much as the API server lets it, and is like no other."""
    requests = []
    for place in range(16):
        one = request(f"r{place}")
        inner = f"{NUMBERS}.all(c,{UUID}.size()+a+b+c+{number * 100 + place}>0)"
        expression = f"{NUMBERS}.all(a,{NUMBERS}.all(b,{inner}))" + " || false" * 100
        one["exactly"]["selectors"] = [{"cel": {"expression": expression}}]
        requests.append(one)
    return claim(f"costly-{number}", *requests)


@pytest.fixture
def hostile(space: Space) -> Iterator[str]:
    """Another namespace."""
    name = f"{space.name}-x"
    space.api.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    space.api.delete(NAMESPACES, name)


def _send(space: Space, namespace: str, body: JSON) -> tuple[int, str]:
    """Sends a claim that is not to be stored."""
    url = f"{space.api.server}{RESOURCE_CLAIMS.path(namespace=namespace)}?dryRun=All"
    headers = {**space.api.headers, "Content-Type": "application/json"}
    answer = space.api.pool.request("POST", url, body=json.dumps(body).encode(), headers=headers, timeout=120)
    return answer.status, answer.data.decode(errors="replace")


def test_what_one_namespace_sends_holds_up_neither_another_one_nor_the_lease(
    space: Space, hostile: str
) -> None:
    before = _holders(space)
    end = time.monotonic() + FOR_S
    answers: list[tuple[int, str]] = []

    def flood(first: int) -> None:
        number = first
        while time.monotonic() < end:
            answers.append(_send(space, hostile, _costly(number)))
            number += AT_ONCE

    took = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        floods = [pool.submit(flood, first) for first in range(AT_ONCE)]
        while time.monotonic() < end:
            began = time.monotonic()
            status, text = _send(space, space.name, claim("small", request(memory="1Gi")))
            took.append(time.monotonic() - began)
            assert status == 201, text
            time.sleep(0.1)
        for one in floods:
            one.result()
    counts = Counter(status for status, _ in answers)
    print(f"hostile: {dict(counts)}; another namespace: {len(took)}, slowest {max(took):.2f} s")  # noqa: T201
    # Where the machine is slow, an API server waits no longer for what it sent itself.
    late = [text for status, text in answers if status in (500, 504) and _is_late(text)]
    assert set(counts) <= {201, 429, 500, 504}
    assert len(late) == counts[500] + counts[504], answers
    assert all("NamespaceBusy" in text for status, text in answers if status == 429)
    assert _holders(space) == before


def _is_late(text: str) -> bool:
    return "failed calling webhook" in text and "deadline exceeded" in text


def _holders(space: Space) -> dict[str, tuple[str, int]]:
    """Who holds our Leases, and how often they changed hands."""
    return {
        one["metadata"]["name"]: (one["spec"]["holderIdentity"], one["spec"].get("leaseTransitions", 0))
        for one in space.api.list(LEASES)
        if "dragoman" in one["metadata"]["name"]
    }
