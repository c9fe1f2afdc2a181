"""The process that `hack/bench admit` measures: our webhook, and beside it one that allows everything.

Flow: started with a folder; writes `ca.pem` and `ports.json` into it, serves until its input ends, and writes
`seconds.json`: how long each answer of ours took inside the webhook, in order.

Limits: the cluster is in memory, quotas too: a write of the API server that a quota takes is not in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf

from controller.admission.certificates import renewed
from controller.admission.keeper import Keeper
from controller.admission.knowledge import Knowledge
from controller.admission.listener import PATH
from controller.admission.server import Admission
from controller.by_turns import ByTurns
from controller.quota.charges import Charges
from controller.quota.quotas import Quotas
from controller.quota.store import MemoryStore
from driver.quota.stock import Stock
from tooling.bench.admit_world import scene
from tooling.replay.admit import Replay
from tooling.replay.admit_settings import ReplaySettings

NAME = "webhook.dragoman.svc"


class _Counted(MemoryStore):
    """Quotas whose reservations are counted as soon as they are written, as if the claim were stored."""

    async def write_status(self, document: dict[str, Any]) -> dict[str, Any]:
        """See `QuotaStore`."""
        return await super().write_status({**document, "status": {**document["status"], "reservations": []}})


class _Files(Keeper):
    """Certificates that are there already."""

    def __init__(self, folder: Path) -> None:
        made = renewed(None, names=(NAME,), now=datetime.now(UTC))
        self.certificate, self.key = folder / "tls.pem", folder / "key.pem"
        self.certificate.write_bytes(made.certificate)
        self.key.write_bytes(made.key)
        (folder / "ca.pem").write_bytes(made.authorities)
        self.ready = self.trusted = True

    async def look(self) -> None:
        """Nothing to be looked after."""


async def _allow(review: Mapping[str, Any], **_: Any) -> dict[str, Any]:
    response = {"uid": review["request"]["uid"], "allowed": True}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


async def _serve_nothing(keeper: _Files, port: int) -> None:
    server = kopf.WebhookServer(
        addr="127.0.0.1", port=port, path=PATH, certfile=keeper.certificate, pkeyfile=keeper.key
    )
    async for _ in server(_allow):  # type: ignore[arg-type] # kopf's type names its own requests
        pass


def _knowledge(nodes: int) -> Knowledge:
    cluster = scene(nodes=nodes)
    stock = Stock(class_is_ours=lambda _: True)
    for node, cards in cluster.cards.items():
        stock.put(node, cards)
    for one in cluster.classes.values():
        stock.put_class(one)
    beside = ByTurns()
    quotas = Quotas(_Counted(cluster.quotas), charges=Charges(stock, beside=beside), carried=False)
    return replace(Replay(cluster, ReplaySettings().complete()).knowledge, quotas=quotas, beside=beside)


async def serve(folder: Path, *, nodes: int) -> None:
    """Serves until standard input ends."""
    seconds: list[float] = []
    keeper = _Files(folder)
    ports = {"ours": _free_port(), "nothing": _free_port()}
    ours = Admission(
        keeper,
        _knowledge(nodes),
        address="127.0.0.1",
        port=ports["ours"],
        answered=lambda _outcome, took: seconds.append(took),
    )
    serving = [asyncio.create_task(ours.run()), asyncio.create_task(_serve_nothing(keeper, ports["nothing"]))]
    made = folder / "ports.json.new"
    made.write_text(json.dumps({**ports, "pid": os.getpid()}))
    made.rename(folder / "ports.json")
    await asyncio.to_thread(sys.stdin.buffer.read)
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    (folder / "seconds.json").write_text(json.dumps(seconds))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), nodes=int(sys.argv[2])))
