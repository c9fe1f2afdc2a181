"""The DRA service: what the kubelet calls to prepare and unprepare claims.

Flow: call -> claims as `ClaimRef` -> `PrepareEngine` -> answers for each claim. One implementation serves v1
and v1beta1; they differ by the share id. A claim that is refused gets its sentence in the answer and does not
harm the others of the call. Who has to hear of the outcome afterwards (claim status, events) listens; the
kubelet does not wait for them.

Limits: the event loop only moves messages here; files and vendors are the engine's business, in threads. A
prepare that arrives before the first look for cards is through waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import grpc
import structlog

from driver.errors import DragomanError, PrepareError
from kubelet_plugin.api import dra_v1_pb2, dra_v1_pb2_grpc, dra_v1beta1_pb2, dra_v1beta1_pb2_grpc
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim

log = structlog.get_logger(__name__)

CARDS_PATIENCE_S = 30.0
"""Below the kubelet's deadline of 45 s, so that it hears a sentence and not a time-out."""


class CardsNotKnownYetError(PrepareError):
    """The first look for cards is not through."""

    reason: ClassVar[str] = "CardsNotKnownYet"
    retriable: ClassVar[bool] = True


class Engine(Protocol):
    """What the service needs of `kubelet_plugin.prepare.engine.PrepareEngine`."""

    async def prepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, PreparedClaim | DragomanError]:
        """By UID: the devices, or why not."""

    async def unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, DragomanError | None]:
        """By UID: None, or why not."""


class Listener(Protocol):
    """Hears of each claim's outcome, after the kubelet was answered; must not block."""

    def prepared(self, ref: ClaimRef, answer: PreparedClaim) -> None:
        """A claim was prepared (again)."""

    def refused(self, ref: ClaimRef, error: DragomanError) -> None:
        """A claim was refused."""


class ClaimService:
    """Prepares and unprepares for both versions of the contract.

    Args:
        engine: Does the work.
        cards_ready: Set once the first look for cards is through.
        metrics: Where calls are counted.
        listeners: Who hears of outcomes.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        cards_ready: asyncio.Event,
        metrics: Metrics,
        listeners: Sequence[Listener] = (),
        patience_s: float = CARDS_PATIENCE_S,
    ) -> None:
        self._engine = engine
        self._cards_ready = cards_ready
        self._metrics = metrics
        self._listeners = listeners
        self._patience_s = patience_s

    async def prepare(
        self, claims: Sequence[Any], *, version: str
    ) -> Mapping[str, PreparedClaim | DragomanError]:
        """Prepares the claims of one call."""
        refs = _refs(claims)
        with operation("prepare"):
            began = time.monotonic()
            if await self._cards_known():
                answers = await self._engine.prepare(refs)
            else:
                late = CardsNotKnownYetError("The agent is still looking for the cards of this node.")
                answers = {ref.uid: late for ref in refs}
            errors = {uid: answer for uid, answer in answers.items() if isinstance(answer, DragomanError)}
            self._note("prepare", refs, errors, version=version, seconds=time.monotonic() - began)
            asyncio.get_running_loop().call_soon(self._tell, refs, answers)
        return answers

    async def unprepare(self, claims: Sequence[Any], *, version: str) -> Mapping[str, DragomanError | None]:
        """Unprepares the claims of one call."""
        refs = _refs(claims)
        with operation("unprepare"):
            began = time.monotonic()
            answers = await self._engine.unprepare(refs)
            errors = {uid: answer for uid, answer in answers.items() if answer is not None}
            self._note("unprepare", refs, errors, version=version, seconds=time.monotonic() - began)
        return answers

    async def _cards_known(self) -> bool:
        if self._cards_ready.is_set():
            return True
        try:
            await asyncio.wait_for(self._cards_ready.wait(), self._patience_s)
        except TimeoutError:
            return False
        return True

    def _tell(self, refs: Sequence[ClaimRef], answers: Mapping[str, PreparedClaim | DragomanError]) -> None:
        for listener in self._listeners:
            for ref in refs:
                answer = answers[ref.uid]
                if isinstance(answer, DragomanError):
                    listener.refused(ref, answer)
                else:
                    listener.prepared(ref, answer)

    def _note(
        self,
        verb: str,
        refs: Sequence[ClaimRef],
        errors: Mapping[str, DragomanError],
        *,
        version: str,
        seconds: float,
    ) -> None:
        for ref in refs:
            error = errors.get(ref.uid)
            self._metrics.count(
                "claims_total",
                operation=verb,
                result="ok" if error is None else "refused",
                reason="" if error is None else error.reason,
            )
        result = "ok" if not errors else "failed" if len(errors) == len(refs) else "partial"
        self._metrics.observe(
            "call_duration_seconds", seconds, operation=verb, version=version, result=result
        )
        log.info(
            "claims answered",
            verb=verb,
            claims=[f"{ref.namespace}/{ref.name}" for ref in refs],
            refused=len(errors),
            duration_ms=round(seconds * 1000, 2),
        )


class DraV1(dra_v1_pb2_grpc.DRAPluginServicer):
    """The service as kubelets from 1.34 on call it."""

    def __init__(self, service: ClaimService) -> None:
        self._service = service

    async def NodePrepareResources(  # noqa: N802 - the contract's name
        self,
        request: dra_v1_pb2.NodePrepareResourcesRequest,
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> dra_v1_pb2.NodePrepareResourcesResponse:
        """Prepares the claims of a pod."""
        answers = await self._service.prepare(request.claims, version="v1")
        response = dra_v1_pb2.NodePrepareResourcesResponse()
        _fill_prepared(response.claims, answers, share_ids=True)
        return response

    async def NodeUnprepareResources(  # noqa: N802 - the contract's name
        self,
        request: dra_v1_pb2.NodeUnprepareResourcesRequest,
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> dra_v1_pb2.NodeUnprepareResourcesResponse:
        """Unprepares claims."""
        answers = await self._service.unprepare(request.claims, version="v1")
        response = dra_v1_pb2.NodeUnprepareResourcesResponse()
        _fill_unprepared(response.claims, answers)
        return response


class DraV1Beta1(dra_v1beta1_pb2_grpc.DRAPluginServicer):
    """The same service for callers that know v1beta1 only; it has no share ids."""

    def __init__(self, service: ClaimService) -> None:
        self._service = service

    async def NodePrepareResources(  # noqa: N802 - the contract's name
        self,
        request: dra_v1beta1_pb2.NodePrepareResourcesRequest,
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> dra_v1beta1_pb2.NodePrepareResourcesResponse:
        """Prepares the claims of a pod."""
        answers = await self._service.prepare(request.claims, version="v1beta1")
        response = dra_v1beta1_pb2.NodePrepareResourcesResponse()
        _fill_prepared(response.claims, answers, share_ids=False)
        return response

    async def NodeUnprepareResources(  # noqa: N802 - the contract's name
        self,
        request: dra_v1beta1_pb2.NodeUnprepareResourcesRequest,
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> dra_v1beta1_pb2.NodeUnprepareResourcesResponse:
        """Unprepares claims."""
        answers = await self._service.unprepare(request.claims, version="v1beta1")
        response = dra_v1beta1_pb2.NodeUnprepareResourcesResponse()
        _fill_unprepared(response.claims, answers)
        return response


def add_claim_services(server: grpc.aio.Server, service: ClaimService) -> None:
    """Serves claims in both versions."""
    dra_v1_pb2_grpc.add_DRAPluginServicer_to_server(DraV1(service), server)
    dra_v1beta1_pb2_grpc.add_DRAPluginServicer_to_server(DraV1Beta1(service), server)


def _fill_prepared(
    claims: Any, answers: Mapping[str, PreparedClaim | DragomanError], *, share_ids: bool
) -> None:
    # `claims` is the answer's map of either version: the messages differ in the share id alone.
    for uid, answer in answers.items():
        entry = claims[uid]
        if isinstance(answer, DragomanError):
            entry.error = str(answer)
            continue
        for device in answer.devices:
            added = entry.devices.add(
                request_names=[device.request],
                pool_name=device.pool,
                device_name=device.device,
                cdi_device_ids=[device.cdi_id],
            )
            if share_ids and device.share_id:
                added.share_id = device.share_id


def _fill_unprepared(claims: Any, answers: Mapping[str, DragomanError | None]) -> None:
    for uid, error in answers.items():
        claims[uid].error = "" if error is None else str(error)


def _refs(claims: Sequence[Any]) -> list[ClaimRef]:
    # A UID twice in one call is one claim: the answer is a map.
    unique = {
        claim.uid: ClaimRef(namespace=claim.namespace, name=claim.name, uid=claim.uid) for claim in claims
    }
    return list(unique.values())
