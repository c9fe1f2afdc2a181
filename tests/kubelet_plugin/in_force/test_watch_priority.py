from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.isolation import region as layout
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.region import read_region
from driver.isolation.rules import ShareKey
from kubelet_plugin.in_force.containers import RunningContainer
from kubelet_plugin.in_force.watch import EVERY_S
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from tests.driver.isolation import regions
from tests.kubelet_plugin.in_force.test_processes import stat
from tests.kubelet_plugin.in_force.test_watch import CARD, SHARE, Node

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Cards:
    """The one card, under a policy that can change."""

    def __init__(self) -> None:
        self.card: Card | None = replace(CARD, allow_high_priority=True)

    def cards(self) -> Mapping[str, Card]:
        return {} if self.card is None else {self.card.name: self.card}

    def vendor_edits(self, card: Card) -> ContainerEdits:
        return ContainerEdits()


class Shares(Node):
    """A share of high priority that computes, and one of low priority."""

    def __init__(self, root: Path) -> None:
        preload = Preload(PreloadSettings(library="/lib.so", files_dir="/files", region_dir="/run/dragoman"))
        super().__init__(root, preload=preload)
        self.cards = Cards()
        self.watch = self.makes_watch()
        self.records, self.containers.found = [], []
        self.adds("high", pid=7, priority="high")
        self.adds("low", pid=8)

    def makes_watch(self) -> Any:
        return type(self.watch)(
            records=lambda: self.records,
            pods=self._pods,
            containers=self.containers,
            cards=self.cards,
            methods={IsolationLevel.PRELOAD: self.preload},
            host=self.watch._host,
            metrics=self.metrics,
            deadline_s=10.0,
            told=lambda *_: None,
        )

    def adds(self, uid: str, *, pid: int, priority: str = "") -> None:
        share = ShareRecord(
            share=replace(SHARE.share, claim_uid=uid),
            pool="n/dragoman",
            cdi_device=uid,
            priority=priority,
            memory_level=IsolationLevel.PRELOAD,
            cores_level=IsolationLevel.PRELOAD,
        )
        self.records.append(ClaimRecord(uid=uid, namespace="ns", name=uid, allocation="", shares=(share,)))
        container = f"{pid:064x}"
        key = ShareKey(claim_uid=uid, request="gpu", device="nvidia-1")
        self.containers.found.append(
            RunningContainer(
                namespace="ns", pod=uid, name="app", container_id=container, uses=frozenset({key})
            )
        )
        process = self.root / f"proc/{pid}"
        process.mkdir()
        (process / "cgroup").write_text(f"0::/kubepods/pod{uid}/{container}\n")
        (process / "stat").write_text(stat(pid))
        (process / "maps").write_text(
            "7f03-7f04 rw-s 00000000 00:2c 8 /usr/local/dragoman/region/shared.cache\n"
        )
        region = self.root / f"run/dragoman/{uid}/gpu/region/shared.cache"
        region.parent.mkdir(parents=True)
        region.write_bytes(regions.made(memory={0: 64}, cores={0: 30}))
        self.launches(uid)

    def launches(self, uid: str, *, at: float | None = None) -> None:
        """Notes a launch in a region, as the library does."""
        path = self.root / f"run/dragoman/{uid}/gpu/region/shared.cache"
        content = bytearray(path.read_bytes())
        moment = int(time.time() if at is None else at)
        content[layout.LAST_KERNEL : layout.LAST_KERNEL + 8] = moment.to_bytes(8, "little")
        path.write_bytes(content)

    def waits(self, uid: str) -> bool:
        path = f"/run/dragoman/{uid}/gpu/region/shared.cache"
        return read_region(path, host=self.watch._host).recent_kernel < 0


@pytest.fixture
def shares(tmp_path: Path) -> Shares:
    return Shares(tmp_path)


async def low_waits(shares: Shares) -> None:
    await shares.rounds(1)
    assert (shares.waits("high"), shares.waits("low")) == (False, True)


async def test_who_waits_is_told_by_a_metric(shares: Shares) -> None:
    await low_waits(shares)
    told = {
        labels.partition('pod="')[2].partition('"')[0]: value
        for labels, value in shares.series("share_waiting").items()
    }
    assert told == {"high": 0.0, "low": 1.0}
    shares.launches("high", at=0)
    await shares.rounds(1)
    assert set(shares.series("share_waiting").values()) == {0.0}
    assert not shares.waits("low")


async def test_without_a_policy_nobody_can_wait_and_no_metric_says_so(shares: Shares) -> None:
    await low_waits(shares)
    shares.cards.card = CARD
    await shares.rounds(1)
    assert (shares.waits("low"), shares.series("share_waiting")) == (False, {})


async def test_who_waits_goes_on_where_the_card_is_gone(shares: Shares) -> None:
    await low_waits(shares)
    shares.cards.card = None
    await shares.rounds(1)
    assert not shares.waits("low")


async def test_who_waits_goes_on_while_the_kubelet_does_not_answer(shares: Shares) -> None:
    await low_waits(shares)
    shares.pods = None
    await shares.rounds(1)
    assert not shares.waits("low")
    shares.pods = [("ns", "high"), ("ns", "low")]
    await shares.rounds(1)
    assert shares.waits("low")


@pytest.mark.parametrize("what", ["processes", "regions"])
async def test_who_waits_goes_on_where_a_look_at_the_node_takes_too_long(
    shares: Shares, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await low_waits(shares)
    once = shares.watch._looks.once

    async def too_long(name: str, work: Any) -> Any:
        return None if name == what else await once(name, work)

    monkeypatch.setattr(shares.watch._looks, "once", too_long)
    await shares.rounds(1)
    assert not shares.waits("low")


@pytest.mark.parametrize("gone", ["high", "low"])
async def test_who_waits_goes_on_when_a_container_is_not_seen_any_more(shares: Shares, gone: str) -> None:
    await low_waits(shares)
    shares.containers.found = [one for one in shares.containers.found if one.pod != gone]
    await shares.rounds(1)
    assert not shares.waits("low")


async def test_who_waits_goes_on_when_no_share_is_known_any_more(shares: Shares) -> None:
    await low_waits(shares)
    shares.records = []
    await shares.rounds(1)
    assert not shares.waits("low")


async def test_who_waits_goes_on_when_the_watch_ends(shares: Shares) -> None:
    await low_waits(shares)
    watching = asyncio.create_task(shares.watch.run())
    await asyncio.sleep(EVERY_S)
    assert shares.waits("low")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not shares.waits("low")
    await shares.rounds(1)
    assert not shares.waits("low")


async def test_who_waits_goes_on_when_a_round_fails(shares: Shares) -> None:
    await low_waits(shares)

    async def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    shares.containers.running = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a bug"):
        await shares.watch.run()
    assert not shares.waits("low")


async def test_a_watch_that_begins_anew_makes_wait_again(shares: Shares) -> None:
    await low_waits(shares)
    shares.watch._waiting.end()
    shares.watch = shares.makes_watch()
    await shares.rounds(1)
    assert shares.waits("low")
