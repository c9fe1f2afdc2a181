"""Which of several API servers answers is known by its certificate, also where it is asked by its address."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from controller.admission.certificates import renewed
from controller.servers import connecting
from driver.kube.client import UnreachableError
from driver.kube.config import ClusterConfig

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def serving(folder: Path, *, name: str) -> AsyncIterator[tuple[str, str]]:
    """A real server with a certificate for a name: its URL by address, and whom to trust."""
    made = renewed(None, names=(name,), now=dt.datetime.now(dt.UTC))
    certificate, key = folder / "crt", folder / "key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def version(_request: web.Request) -> web.Response:
        return web.json_response({"minor": "36"})

    application = web.Application()
    application.router.add_get("/version", version)
    running = TestServer(application, scheme="https")
    await running.start_server(ssl=context)
    try:
        yield f"https://127.0.0.1:{running.port}", made.authorities.decode()
    finally:
        await running.close()


@pytest.mark.parametrize(("name", "answered"), [("api.example", True), ("other.example", False)])
async def test_a_server_has_to_prove_by_its_certificate_that_it_is_the_one_that_is_asked_always(
    name: str, answered: bool, tmp_path: Path
) -> None:
    async with serving(tmp_path, name=name) as (url, authority):
        config = ClusterConfig(server="https://api.example:443", ca=authority, token="t")
        async with connecting(config, user_agent="x")(url) as client:
            if answered:
                assert await client.raw_get("/version") == {"minor": "36"}
            else:
                with pytest.raises(UnreachableError):
                    await client.raw_get("/version")
