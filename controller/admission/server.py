"""Serves admission by HTTPS, in every replica.

Flow: `run` waits for a certificate and serves until it is cancelled; it looks after certificates meanwhile.

Limits: `listener` does TLS, HTTP and JSON, and says how large objects may be; what is decided is `review`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from controller.admission.keeper import Keeper
from controller.admission.knowledge import Knowledge
from controller.admission.lane import AdmissionBusyError
from controller.admission.listener import PATH, Listener
from controller.admission.request import TOO_LARGE, TOO_MANY, Reply, Request, encoded, written
from controller.admission.review import Webhook, answer
from driver.errors import DragomanError
from driver.kube.client import JSON, ApiError

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
        self._answered = answered
        self._listener = Listener(
            address=address,
            port=port,
            certificate=keeper.certificate,
            key=keeper.key,
            answer=self._review,
            refuse=self._refuse,
        )

    @property
    def ready(self) -> bool:
        """Whether requests can be answered, and the API server trusts who answers."""
        return self._keeper.ready and self._keeper.trusted

    def drain(self) -> None:
        """Answers go on, and each sends its client to another replica: this one ends soon."""
        self._listener.drain()

    async def run(self) -> None:
        """Serves until cancelled."""
        while not self._keeper.ready:
            await self._look()
            if not self._keeper.ready:
                await asyncio.sleep(_LOOK_AGAIN_S)
        serving = asyncio.create_task(self._listener.run(), name="admission server")
        try:
            while not serving.done():
                await asyncio.wait([serving], timeout=_LOOK_S if self._keeper.trusted else _LOOK_AGAIN_S)
                await self._look()
                self._renew()
            serving.result()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _look(self) -> None:
        try:
            await self._keeper.look()
        except ApiError as failed:
            _log.warning("certificates could not be looked at", error=str(failed))

    def _renew(self) -> None:
        try:
            self._listener.renew()
        except OSError as failed:
            _log.warning("certificate not taken", error=str(failed))

    async def _review(self, review: JSON, path: str) -> JSON:
        began = time.monotonic()
        outcome = "failed"
        try:
            found = await answer(review, self._known, webhook=_webhook(path))
            response = found["response"]
            outcome = (
                "refused" if not response["allowed"] else "changed" if "patch" in response else "unchanged"
            )
        finally:
            self._answered(outcome, time.monotonic() - began)
        return encoded(found)

    def _refuse(self, uid: str, path: str, refused: DragomanError) -> JSON | None:
        # A refusal answers checks only; whether an object is stored unchanged is its webhook's policy.
        if path != Webhook.VALIDATING:
            self._answered("failed", 0.0)
            return None
        self._answered("refused", 0.0)
        reply = Reply()
        reply.refuse(refused, code=TOO_MANY if isinstance(refused, AdmissionBusyError) else TOO_LARGE)
        return written(Request(uid=uid, kind="", operation=""), reply)


def _webhook(path: str) -> Webhook:
    try:
        return Webhook(path)
    except ValueError:
        known = ", ".join(f"{PATH}/{one}" for one in Webhook)
        raise ValueError(f"Nothing is answered at {path!r}; the paths are {known}.") from None
