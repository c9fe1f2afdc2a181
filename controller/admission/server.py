"""Serves admission by HTTPS, in every replica.

Flow: `run` waits for a certificate and serves with kopf's webhook server until it is cancelled; it looks
after the certificates meanwhile.

Limits: kopf's server does TLS, HTTP and JSON; what is decided is `review`'s. Bodies over a MiB are refused,
and no claim is nearly as large.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp.web
import kopf
import structlog

from controller.admission.keeper import Keeper
from controller.admission.knowledge import Knowledge
from controller.admission.request import encoded
from controller.admission.review import Webhook, answer
from driver.kube.client import JSON, ApiError

PATH = "/admit"
_LOOK_S = 5.0
"""A webhook that comes with an upgrade or a change of the mode trusts nobody at first: for so long what it is
about is refused, or stored without having been looked at, and the new replicas' rollout waits."""
_LOOK_AGAIN_S = 2.0

_log = structlog.get_logger("admission")


class Admission:
    """The webhook of one replica."""

    def __init__(
        self,
        keeper: Keeper,
        known: Knowledge,
        *,
        address: str,
        port: int,
        answered: Callable[[str, float], None],
    ) -> None:
        """Prepares a server; `run` starts it.

        Args:
            keeper: Its certificates.
            known: What answers depend on.
            address: Where to listen.
            port: Where to listen.
            answered: Told the outcome (`unchanged`, `changed`, `refused`, `failed`) and the seconds of each
                request.
        """
        self._keeper = keeper
        self._known = known
        self._address = address
        self._port = port
        self._answered = answered

    @property
    def ready(self) -> bool:
        """Whether requests can be answered, and the API server trusts who answers."""
        return self._keeper.ready and self._keeper.trusted

    async def run(self) -> None:
        """Serves until cancelled."""
        while not self._keeper.ready:
            await self._look()
            if not self._keeper.ready:
                await asyncio.sleep(_LOOK_AGAIN_S)
        serving = asyncio.create_task(self._serve(), name="admission server")
        try:
            while not serving.done():
                await asyncio.wait([serving], timeout=_LOOK_S if self._keeper.trusted else _LOOK_AGAIN_S)
                await self._look()
            serving.result()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _look(self) -> None:
        try:
            await self._keeper.look()
        except ApiError as failed:
            _log.warning("certificates could not be looked at", error=str(failed))

    async def _serve(self) -> None:
        # It reads the files again when they change.
        server = kopf.WebhookServer(
            addr=self._address,
            port=self._port,
            path=PATH,
            certfile=self._keeper.certificate,
            pkeyfile=self._keeper.key,
        )
        async for _ in server(self._review):  # type: ignore[arg-type] # kopf's type names its own requests
            _log.info("serving admission", port=self._port)

    async def _review(self, review: Mapping[str, Any], *, webhook: str | None = None, **_: Any) -> JSON:
        began = time.monotonic()
        outcome = "failed"
        try:
            found = await answer(review, self._known, webhook=_webhook(webhook))
            response = found["response"]
            outcome = (
                "refused" if not response["allowed"] else "changed" if "patch" in response else "unchanged"
            )
        except ValueError as failed:
            raise aiohttp.web.HTTPBadRequest(text=str(failed)) from None
        finally:
            self._answered(outcome, time.monotonic() - began)
        return encoded(found)


def _webhook(path: str | None) -> Webhook:
    try:
        return Webhook(path or "")
    except ValueError:
        known = ", ".join(f"{PATH}/{one}" for one in Webhook)
        raise ValueError(f"Nothing is answered at {path!r}; the paths are {known}.") from None
