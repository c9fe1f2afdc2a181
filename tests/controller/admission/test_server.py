"""Admission over HTTPS, as the API server asks it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controller.admission.keeper import Keeper, KeeperSettings
from controller.admission.knowledge import Knowledge
from controller.admission.listener import LARGE
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

    async def ask(self, body: Any, *, path: str = "claims") -> tuple[int, bytes]:
        async with self.serving() as session:
            return await self.post(session, body, path=path)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aiohttp.ClientSession]:
        await self.keeper.look()
        serving = asyncio.create_task(self.admission.run())
        try:
            async with aiohttp.ClientSession() as session:
                for _ in range(6000):
                    try:
                        await self.post(session, b"")
                        break
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.01)
                else:
                    raise AssertionError("nobody listens")
                self.outcomes.clear()
                yield session
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def post(
        self, session: aiohttp.ClientSession, body: Any, *, path: str = "claims"
    ) -> tuple[int, bytes]:
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        url = f"https://127.0.0.1:{self.port}/admit/{path}"
        async with session.post(url, data=data, ssl=self.trusting(), server_hostname=NAME) as answer:
            return answer.status, await answer.read()

    def trusting(self) -> ssl.SSLContext:
        trusted = base64.b64decode(self.secret["data"]["ca.crt"]).decode()
        return ssl.create_default_context(cadata=trusted)


def review(device_class: str, *, uid: str = "u", parameters: str = "") -> bytes:
    exactly = {"deviceClassName": device_class, "capacity": {"requests": {"memory": "4Gi"}}}
    claim = {
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    if parameters:
        opaque = {"driver": "other.example.com", "parameters": {"a": "HERE"}}
        claim["spec"]["devices"]["config"] = [{"opaque": opaque}]  # type: ignore[index]
    request = {"uid": uid, "kind": {"kind": "ResourceClaim"}, "operation": "CREATE", "object": claim}
    found = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    # As Go writes it: without spaces.
    return json.dumps(found, separators=(",", ":")).replace('"HERE"', parameters).encode()


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


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param('"' + "x" * (3 << 20) + '"', id="3 MiB"),
        pytest.param('"' + "\\u003c" * (1 << 20) + '"', id="a MiB that Go writes as six"),
        pytest.param("[" * 5000 + "]" * 5000, id="5,000 levels"),
        pytest.param("9" * 5000, id="a number of 5,000 digits"),
        pytest.param(r'"\ud800"', id="half a surrogate pair"),
    ],
)
@pytest.mark.parametrize("path", ["claims", "validate"])
def test_whatever_an_api_server_stores_is_looked_at(tmp_path: Path, parameters: str, path: str) -> None:
    world = World(tmp_path)
    status, body = asyncio.run(world.ask(review("ours", parameters=parameters), path=path))
    assert status == 200
    assert json.loads(body)["response"]["allowed"] is True
    assert world.outcomes == ["changed" if path == "claims" else "unchanged"]


UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def test_a_claim_that_is_too_large_to_be_looked_at_is_refused_and_not_left_unanswered(tmp_path: Path) -> None:
    world = World(tmp_path)
    large = review("ours", uid=UID, parameters='"' + "\\u003c" * (3 << 20) + '"')
    status, body = asyncio.run(world.ask(large, path="validate"))
    response = json.loads(body)["response"]
    assert (status, response["uid"], response["allowed"]) == (200, UID, False)
    assert (response["status"]["code"], response["status"]["reason"]) == (413, "RequestEntityTooLarge")
    assert "ReviewTooLarge: This object takes more than 7 MiB" in response["status"]["message"]
    assert world.outcomes == ["refused"]


def test_what_is_too_large_to_be_changed_is_left_to_the_policy_of_its_webhook(tmp_path: Path) -> None:
    world = World(tmp_path)
    large = review("ours", uid=UID, parameters='"' + "x" * (8 << 20) + '"')
    status, _ = asyncio.run(world.ask(large))
    assert status == 413
    assert world.outcomes == ["failed"]


def test_a_body_of_unknown_length_ends_where_it_is_too_large(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield review("ours", uid=UID)[:-1]
        for _ in range(9):
            yield b" " * (1 << 20)

    status, body = asyncio.run(World(tmp_path).ask(pieces(), path="validate"))
    assert (status, json.loads(body)["response"]["allowed"]) == (200, False)


def test_a_body_that_does_not_come_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> tuple[int, int]:
        world = World(tmp_path)
        over = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield review("ours")[:-1]
            await over.wait()
            yield b"}"

        async with world.serving() as session:
            monkeypatch.setattr("controller.admission.listener._READ_S", 0.05)
            status, _ = await world.post(session, pieces(), path="validate")
            monkeypatch.undo()
            over.set()
            # Nobody's turn is kept by it.
            large = review("ours", parameters='"' + "x" * LARGE + '"')
            return status, (await world.post(session, large, path="validate"))[0]

    assert asyncio.run(asked()) == (408, 200)


def test_while_too_many_large_ones_wait_another_is_refused_and_small_ones_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> tuple[Any, Any]:
        world = World(tmp_path)
        async with world.serving() as session, world.admission._listener._lane.turn():
            monkeypatch.setattr("controller.admission.lane._PATIENCE_S", 0.01)
            large = review("ours", uid=UID, parameters='"' + "x" * LARGE + '"')
            _, refused = await world.post(session, large, path="validate")
            _, answered = await world.post(session, review("ours"), path="validate")
            return json.loads(refused)["response"], json.loads(answered)["response"]

    refused, answered = asyncio.run(asked())
    assert (refused["uid"], refused["allowed"]) == (UID, False)
    assert (refused["status"]["code"], refused["status"]["reason"]) == (429, "TooManyRequests")
    assert "AdmissionBusy: " in refused["status"]["message"]
    assert answered["allowed"] is True


def test_another_certificate_is_served_without_a_pause(tmp_path: Path) -> None:
    async def asked() -> int:
        world = World(tmp_path)
        async with world.serving() as session:
            world.secret = None
            await world.keeper.look()
            world.admission._renew()
            # A connection that is there goes on; the next one knows the new authority only.
            async with aiohttp.ClientSession() as another:
                status, _ = await world.post(another, review("ours"))
            await world.post(session, review("ours"))
            return status

    assert asyncio.run(asked()) == 200


def test_a_key_that_does_not_fit_leaves_the_certificate_of_before_in_use(tmp_path: Path) -> None:
    async def asked() -> int:
        world = World(tmp_path)
        async with world.serving():
            whole = world.keeper.key.read_bytes()
            world.keeper.key.write_bytes(b"none")
            world.admission._renew()
            world.keeper.key.write_bytes(whole)
            async with aiohttp.ClientSession() as another:
                return (await world.post(another, review("ours")))[0]

    assert asyncio.run(asked()) == 200


def test_while_it_drains_each_answer_ends_its_connection_and_the_next_one_is_taken(tmp_path: Path) -> None:
    async def asked() -> list[tuple[int, str | None]]:
        world = World(tmp_path)
        async with world.serving() as session:
            world.admission.drain()
            return [await connection(world, session) for _ in range(3)]

    async def connection(world: World, session: aiohttp.ClientSession) -> tuple[int, str | None]:
        url = f"https://127.0.0.1:{world.port}/admit/claims"
        context = world.trusting()
        async with session.post(url, data=review("ours"), ssl=context, server_hostname=NAME) as answer:
            return answer.status, answer.headers.get("Connection")

    assert asyncio.run(asked()) == [(200, "close")] * 3


def test_what_is_being_answered_at_the_end_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> int:
        world = World(tmp_path)
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(*_args: Any, **_more: Any) -> Any:
            entered.set()
            await go_on.wait()
            return {"response": {"allowed": True}}

        monkeypatch.setattr("controller.admission.server.answer", slowly)
        async with aiohttp.ClientSession() as another:
            async with world.serving():
                asking = asyncio.create_task(world.post(another, review("ours")))
                await entered.wait()
                asyncio.get_running_loop().call_later(0.1, go_on.set)
            return (await asking)[0]

    assert asyncio.run(asked()) == 200


class Counting(Keeper):
    """Certificates that are as they should be, and how often somebody made sure of that."""

    def __init__(self) -> None:
        self.ready = self.trusted = True
        self.looks = 0
        self.certificate = self.key = Path("none")

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
    monkeypatch.setattr(admission._listener, "run", lambda: asyncio.sleep(3600))
    running = asyncio.create_task(admission.run())
    await asyncio.sleep(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert 10 <= keeper.looks <= 20
