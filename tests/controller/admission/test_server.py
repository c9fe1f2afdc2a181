"""Admission over HTTPS, as the API server asks it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controller.admission.keeper import Keeper, KeeperSettings
from controller.admission.knowledge import Knowledge
from controller.admission.server import Admission
from driver.api.asked import STAMP
from driver.kube.client import KubeClient, error_for
from tests.support.scripted_api import Request, ScriptedTransport

NAME = "webhook.dragoman.svc"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class World:
    def __init__(self, folder: Path) -> None:
        self.secret: Any = None
        self.outcomes: list[str] = []
        self.port = free_port()
        self.keeper = Keeper(
            KubeClient(ScriptedTransport(self._answer)),
            KeeperSettings(namespace="dragoman", secret="s", service="webhook", configuration="dragoman"),
            folder=folder,
            held=lambda: True,
        )
        self.admission = Admission(
            self.keeper,
            Knowledge(is_ours=lambda name: name == "ours", amounts_kept=lambda: False),
            address="127.0.0.1",
            port=self.port,
            answered=lambda outcome, _seconds: self.outcomes.append(outcome),
        )

    def _answer(self, request: Request) -> Any:
        if "webhookconfigurations" in request.path:
            return {"metadata": {"resourceVersion": "1"}, "webhooks": []}
        if request.method == "POST":
            self.secret = request.body
        return self.secret or error_for(404, message="none")

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        await self.keeper.look()
        serving = asyncio.create_task(self.admission.run())
        try:
            trusted = base64.b64decode(self.secret["data"]["ca.crt"]).decode()
            context = ssl.create_default_context(cadata=trusted)
            async with aiohttp.ClientSession() as session:
                for _ in range(500):
                    try:
                        return await self._post(session, body, context)
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.01)
            raise AssertionError("nobody listens")
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _post(
        self, session: aiohttp.ClientSession, body: bytes, context: ssl.SSLContext
    ) -> tuple[int, bytes]:
        url = f"https://127.0.0.1:{self.port}/admit/claims"
        async with session.post(url, data=body, ssl=context, server_hostname=NAME) as answer:
            return answer.status, await answer.read()


def review(device_class: str) -> bytes:
    exactly = {"deviceClassName": device_class, "capacity": {"requests": {"memory": "4Gi"}}}
    claim = {
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    request = {"uid": "u", "kind": {"kind": "ResourceClaim"}, "operation": "CREATE", "object": claim}
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()


def test_a_claim_of_ours_is_answered_with_a_json_patch(tmp_path: Path) -> None:
    world = World(tmp_path)
    status, body = asyncio.run(world.ask(review("ours")))
    response = json.loads(body)["response"]
    assert (status, response["uid"], response["patchType"]) == (200, "u", "JSONPatch")
    paths = [one["path"] for one in json.loads(base64.b64decode(response["patch"]))]
    assert paths == ["/spec/devices/config", "/metadata/annotations"]
    assert STAMP in base64.b64decode(response["patch"]).decode()
    assert world.outcomes == ["changed"]


def test_a_claim_of_others_is_answered_without_a_patch(tmp_path: Path) -> None:
    world = World(tmp_path)
    status, body = asyncio.run(world.ask(review("others")))
    assert status == 200
    assert json.loads(body)["response"] == {"uid": "u", "allowed": True}
    assert world.outcomes == ["unchanged"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"not JSON", b'{"kind": "AdmissionReview", "request": []}']
)
def test_what_is_no_review_gets_an_error_and_the_server_goes_on(tmp_path: Path, body: bytes) -> None:
    status, _ = asyncio.run(World(tmp_path).ask(body))
    assert 400 <= status < 600


class Counting(Keeper):
    """Certificates that are as they should be, and how often somebody made sure of that."""

    def __init__(self) -> None:
        self.ready = self.trusted = True
        self.looks = 0

    async def look(self) -> None:
        self.looks += 1


@pytest.mark.looptime
@pytest.mark.asyncio
async def test_a_webhook_that_came_without_our_authority_is_found_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeper = Counting()
    known = Knowledge(is_ours=lambda _name: True, amounts_kept=lambda: False)
    admission = Admission(keeper, known, address="", port=0, answered=lambda _outcome, _seconds: None)
    monkeypatch.setattr(admission, "_serve", lambda: asyncio.sleep(3600))
    running = asyncio.create_task(admission.run())
    await asyncio.sleep(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert 10 <= keeper.looks <= 20
