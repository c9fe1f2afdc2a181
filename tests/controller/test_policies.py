"""Policies that cannot be read are told about."""

from typing import Any

import pytest

from controller.events import Events
from controller.metrics import Metrics
from controller.policies import PolicyCheck
from driver.kube.client import error_for
from tests.support.scripted_api import Request, scripted_client

pytestmark = pytest.mark.asyncio


async def check(spec: Any, *, held: bool = True) -> list[Request]:
    def answer(request: Request) -> Any:
        if request.method == "GET":
            if spec is None:
                return error_for(404, message="gone")
            return {"metadata": {"name": "all", "uid": "u"}, "spec": spec}
        return {}

    client, transport = scripted_client(answer)
    events = Events(client, instance="i", metrics=Metrics())
    await PolicyCheck(client, events, held=lambda: held).check("all")
    return transport.writes()


async def test_a_policy_that_cannot_be_read_gets_an_event_with_the_field() -> None:
    (event,) = await check({"reservedMemory": "1.5Ki"})
    assert event.body["regarding"]["kind"] == "AcceleratorPolicy"
    assert event.body["note"].startswith("spec.reservedMemory: ")
    assert event.body["reason"] == "InvalidConfig"


async def test_a_misspelt_field_is_told_with_the_nearest_known_one() -> None:
    (event,) = await check({"reservedMemroy": "1Gi"})
    assert "reservedMemory" in event.body["note"]


@pytest.mark.parametrize("spec", [{}, {"sharing": False, "reservedMemory": "512Mi"}, None])
async def test_a_good_policy_or_one_that_is_gone_gets_none(spec: Any) -> None:
    assert await check(spec) == []


async def test_a_replica_that_does_not_lead_tells_nothing() -> None:
    assert await check({"priority": "high"}, held=False) == []
