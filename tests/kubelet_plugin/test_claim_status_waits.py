"""Writes of claim status stay out of the way of prepares. On a virtual clock; nothing is written really."""

import asyncio
from typing import Any, cast

import pytest

from driver.kube.client import KubeClient
from kubelet_plugin.claim_status import CALM_S, LATEST_S, PACE_S, ClaimStatusWriter
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim, PreparedDevice

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

ANSWER = PreparedClaim(
    devices=(PreparedDevice(request="card", pool="node/dragoman", device="card-0", cdi_id="a", share_id=""),)
)


def ref(uid: str) -> ClaimRef:
    return ClaimRef(namespace="default", name=uid, uid=uid)


class Turns:
    """Notes when the writer turned to which claim; none of them is prepared any more, so nothing is sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []
        self.writer = ClaimStatusWriter(
            cast("KubeClient", None), record_of=self._record_of, metrics=Metrics()
        )

    def _record_of(self, uid: str) -> Any:
        self.seen.append((asyncio.get_running_loop().time(), uid))

    async def during(self, seconds: float, *, every: float = 0.0) -> None:
        """Lets the writer run, and claims be prepared at an interval."""
        running = asyncio.create_task(self.writer.run())
        loop = asyncio.get_running_loop()
        end, number = loop.time() + seconds, 0
        while loop.time() < end:
            if every or not number:
                self.writer.prepared(ref(f"claim-{number}"), ANSWER)
            number += 1
            await asyncio.sleep(every or seconds)
        running.cancel()


async def test_a_status_is_written_once_nothing_was_prepared_for_a_moment() -> None:
    turns = Turns()
    await turns.during(2 * CALM_S)
    ((time, uid),) = turns.seen
    assert time == pytest.approx(CALM_S)
    assert uid == "claim-0"


async def test_no_status_is_written_while_claims_are_prepared_one_after_the_other() -> None:
    turns = Turns()
    await turns.during(LATEST_S - CALM_S, every=CALM_S / 10)
    assert turns.seen == []


async def test_statuses_are_written_slowly_when_prepares_do_not_end() -> None:
    turns = Turns()
    await turns.during(LATEST_S + 1.0, every=CALM_S / 10)
    times = [time for time, _ in turns.seen]
    assert times[0] == pytest.approx(LATEST_S + PACE_S, abs=0.01)
    assert len(times) == pytest.approx(1.0 / PACE_S, abs=1)
    assert [uid for _, uid in turns.seen] == [f"claim-{number}" for number in range(len(times))]
