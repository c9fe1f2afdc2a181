"""The Secret and the trust of the API server are kept up to date."""

from __future__ import annotations

import asyncio
import base64
import copy
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.admission.keeper import Keeper, KeeperSettings
from driver.kube.client import KubeClient, error_for
from tests.support.scripted_api import Request, ScriptedTransport

SECRET = "/api/v1/namespaces/dragoman/secrets"
_REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = f"{_REGISTRATION}/mutatingwebhookconfigurations/dragoman"
VALIDATING = f"{_REGISTRATION}/validatingwebhookconfigurations/dragoman"


class Server:
    folder = ""

    def __init__(self) -> None:
        self.secret: Any = None
        self.bundles: list[Any] = [None, None]
        self.validating: list[Any] | None = [None]
        self.transport = ScriptedTransport(self._answer)

    def _answer(self, request: Request) -> Any:
        if request.path == WEBHOOKS:
            return self._webhooks(request, self.bundles)
        if request.path == VALIDATING:
            return (
                error_for(404, message="none")
                if self.validating is None
                else self._webhooks(request, self.validating)
            )
        if request.method == "GET":
            return copy.deepcopy(self.secret) or error_for(404, message="none")
        if request.method == "POST" and self.secret is not None:
            return error_for(409, message="exists")
        self.secret = copy.deepcopy(request.body)
        return self.secret

    def _webhooks(self, request: Request, bundles: list[Any]) -> Any:
        if request.method == "PATCH":
            for one in request.body[1:]:
                bundles[int(one["path"].split("/")[2])] = one["value"]
        webhooks = [{"clientConfig": {"caBundle": one} if one else {}} for one in bundles]
        return {"metadata": {"resourceVersion": "7"}, "webhooks": webhooks}

    def keeper(self, *, leads: bool = True, own: bool = True, now: datetime | None = None) -> Keeper:
        return Keeper(
            KubeClient(self.transport),
            KeeperSettings(
                namespace="dragoman", secret="s", service="webhook", configuration="dragoman", own=own
            ),
            folder=Path(tempfile.mkdtemp(dir=self.folder)),
            held=lambda: leads,
            wall_clock=lambda: now or datetime.now(UTC),
        )


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "folder", str(tmp_path))


def look(keeper: Keeper) -> Keeper:
    asyncio.run(keeper.look())
    return keeper


def test_the_first_replica_makes_the_secret_and_the_next_one_takes_it() -> None:
    server = Server()
    assert look(server.keeper()).ready
    stored = copy.deepcopy(server.secret)
    assert look(server.keeper()).ready
    assert server.secret == stored


def test_the_leader_tells_the_api_server_whom_to_trust_and_changes_nothing_else() -> None:
    server = Server()
    look(server.keeper())
    assert server.bundles == [server.secret["data"]["ca.crt"]] * 2
    (patch,) = [one for one in server.transport.writes() if one.path == WEBHOOKS]
    assert {one["path"].rpartition("/")[2] for one in patch.body[1:]} == {"caBundle"}
    assert patch.body[0]["op"] == "test"


def test_validating_webhooks_are_told_too() -> None:
    server = Server()
    look(server.keeper())
    assert server.validating == [server.secret["data"]["ca.crt"]]


def test_a_configuration_that_is_not_installed_is_passed_over() -> None:
    server = Server()
    server.validating = None
    assert look(server.keeper()).ready
    assert server.bundles == [server.secret["data"]["ca.crt"]] * 2


def test_a_replica_that_does_not_lead_is_trusted_once_the_leader_said_so() -> None:
    server = Server()
    follower = look(server.keeper(leads=False))
    assert (follower.ready, follower.trusted) == (True, False)
    assert look(server.keeper()).trusted
    assert look(follower).trusted


def test_who_brings_certificates_also_says_whom_to_trust() -> None:
    server = Server()
    look(server.keeper())
    assert look(server.keeper(own=False)).trusted


def test_who_does_not_lead_leaves_the_webhooks_alone() -> None:
    server = Server()
    look(server.keeper(leads=False))
    assert server.bundles == [None, None]


def test_what_is_right_is_not_written_again() -> None:
    server = Server()
    keeper = look(server.keeper())
    before = len(server.transport.writes())
    look(keeper)
    assert len(server.transport.writes()) == before


def test_who_loses_the_race_for_the_secret_serves_what_the_other_wrote() -> None:
    winner, server = Server(), Server()
    look(winner.keeper())
    answers = server._answer

    def late(request: Request) -> Any:
        if request.method == "GET" and request.path.startswith(SECRET) and server.secret is None:
            server.secret = copy.deepcopy(winner.secret)
            return error_for(404, message="none")
        return answers(request)

    server.transport._answer = late
    loser = look(server.keeper())
    assert not loser.ready
    assert look(loser).ready
    assert server.secret == winner.secret


def test_a_certificate_that_is_due_is_renewed_in_the_same_secret() -> None:
    server = Server()
    look(server.keeper(now=datetime.now(UTC) - timedelta(days=80)))
    before = server.secret["data"]["tls.crt"]
    look(server.keeper())
    assert server.secret["data"]["tls.crt"] != before


def test_certificates_of_somebody_else_are_used_and_never_written() -> None:
    server = Server()
    look(server.keeper())
    brought = copy.deepcopy(server.secret)
    server.bundles = [None, None]
    writes = len(server.transport.writes())
    assert look(server.keeper(own=False)).ready
    assert server.secret == brought
    assert len(server.transport.writes()) == writes
    assert server.bundles == [None, None]


def test_without_a_secret_of_somebody_else_nothing_is_served() -> None:
    server = Server()
    assert not look(server.keeper(own=False)).ready


def test_a_client_that_trusts_the_authority_can_talk_to_the_service(tmp_path: Path) -> None:
    server = Server()
    keeper = look(server.keeper())
    authority = tmp_path / "ca.crt"
    authority.write_bytes(base64.b64decode(server.secret["data"]["ca.crt"]))
    client = ssl.create_default_context(cafile=str(authority))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(keeper.certificate, keeper.key)

    async def talk() -> str:
        listener = await asyncio.start_server(
            lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=serving
        )
        port = listener.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname="webhook.dragoman.svc"
        )
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        listener.close()
        return str(version)

    assert asyncio.run(talk()).startswith("TLSv1.")


def test_the_key_is_readable_by_this_process_alone() -> None:
    keeper = look(Server().keeper())
    assert keeper.key.stat().st_mode & 0o077 == 0
    assert [one.name for one in keeper.key.parent.iterdir() if one.suffix == ".new"] == []


@pytest.mark.parametrize("data", [{}, {"tls.crt": "!!"}, {"tls.crt": "", "tls.key": "", "ca.crt": ""}])
def test_a_damaged_secret_is_made_anew(data: Any) -> None:
    server = Server()
    server.secret = {"metadata": {"name": "s"}, "data": data}
    assert look(server.keeper()).ready
    assert server.secret["data"]["tls.crt"]
