"""Claims as odd as an API server takes them: no quota is passed by because a webhook cannot read one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import urllib3

from driver.kube.resources import ACCELERATOR_QUOTAS, DEVICE_CLASSES, RESOURCE_CLAIMS
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Refused
from tests.cluster.support.manifests import claim, request
from tests.cluster.support.quotas import make_quota
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster

PARAMETERS = "HERE"


@pytest.fixture
def limited(space: Space) -> Iterator[Space]:
    """A namespace whose claims may ask for 32 GiB, and an administrator's own class of the same name."""
    selectors = [{"cel": {"expression": "device.driver == 'dragoman.dev'"}}]
    space.api.create(DEVICE_CLASSES, {"metadata": {"name": space.name}, "spec": {"selectors": selectors}})
    make_quota(space, {"memory": "32Gi", "cores": "400", "cards": "64"})
    yield space
    for one in space.api.list(ACCELERATOR_QUOTAS, namespace=space.name):
        space.api.delete(ACCELERATOR_QUOTAS, one["metadata"]["name"], namespace=space.name)
    space.api.delete(DEVICE_CLASSES, space.name)


def _create(space: Space, body: JSON, *, parameters: str = "null") -> None:
    # Text, because Python writes neither deep lists nor half a surrogate pair.
    text = json.dumps(body, separators=(",", ":")).replace(f'"{PARAMETERS}"', parameters)
    url = f"{space.api.server}{RESOURCE_CLAIMS.path(namespace=space.name)}"
    headers = {**space.api.headers, "Content-Type": "application/json"}

    def answered() -> urllib3.BaseHTTPResponse | None:
        answer = space.api.pool.request("POST", url, body=text.encode(), headers=headers, timeout=60.0)
        assert answer.status >= 400, (answer.status, answer.data[:300])
        # Who could not read it in time is asked again.
        return answer if answer.status < 500 else None

    answer = waiting.eventually(answered, what="a webhook answers")
    assert answer.status in (403, 413), (answer.status, answer.data[:300])
    assert b"QuotaExceeded" in answer.data or b"ReviewTooLarge" in answer.data


def _large(space: Space, filler: str) -> JSON:
    """A claim of about 1.3 MB that asks for more than the quota has."""
    long = [{"cel": {"expression": f"true || '{filler * 9900}' == ''"}}] * 16
    inner = {"deviceClassName": space.name, "selectors": long, "capacity": {"requests": {"memory": "40Gi"}}}
    return claim("a", {"name": "card", "firstAvailable": [{"name": f"s{n}", **inner} for n in range(8)]})


def test_without_oddities_the_claim_is_over_quota(limited: Space) -> None:
    with pytest.raises(Refused, match="QuotaExceeded"):
        limited.create(claim("a", request(of=limited.name, memory="40Gi")))


@pytest.mark.parametrize("filler", ["x", "<"], ids=["1.3 MB", "1.3 MB that become 8"])
def test_a_claim_is_over_quota_however_large_it_is(limited: Space, filler: str) -> None:
    _create(limited, _large(limited, filler))


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param('{"a":' + "[" * 3000 + "]" * 3000 + "}", id="3,000 levels"),
        pytest.param('{"a":0.' + "9" * 5000 + "}", id="a number of 5,000 digits"),
        pytest.param(r'{"a":"\ud800"}', id="half a surrogate pair"),
    ],
)
def test_a_claim_is_over_quota_whatever_its_parameters_are(limited: Space, parameters: str) -> None:
    body = claim("a", request(of=limited.name, memory="40Gi"))
    opaque = {"driver": "other.example.com", "parameters": PARAMETERS}
    body["spec"]["devices"]["config"] = [{"opaque": opaque}]
    _create(limited, body, parameters=parameters)
