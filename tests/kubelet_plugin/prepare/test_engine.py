"""Prepare and unprepare as the kubelet sees them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from driver.cards import IsolationLevel
from driver.errors import (
    ClaimError,
    DeviceGoneError,
    DragomanError,
    IsolationError,
    KubeError,
    OverCommitError,
    OverCommitReleasingError,
)
from kubelet_plugin.prepare import planning
from kubelet_plugin.prepare.planning import PodUnknownError
from kubelet_plugin.prepare.prepared import PreparedClaim
from tests.support.node_world import (
    POOL,
    card,
    claim,
    container,
    pod,
    prepare,
    ref,
    result,
    share_config,
    uid_of,
    unprepare,
)

if TYPE_CHECKING:
    from tests.support.node_world import World

pytestmark = pytest.mark.asyncio


async def test_a_share_becomes_a_cdi_device_with_its_limit(world: World) -> None:
    found = claim("claim", result(memory="512Mi", cores="30"))
    world.add(found, pod())
    async with world.engine() as engine:
        (device,) = (await prepare(engine, found)).devices
    assert (device.request, device.pool, device.device) == ("gpu", POOL, "card-0")
    assert device.share_id == uid_of("share-a")
    assert device.cdi_id == f"dragoman.dev/share={uid_of('claim')}.gpu.card-0.{uid_of('share-a')}"
    assert world.env(found) == {"VENDOR=test", "LIMIT_0=512m", "CORES_0=30"}
    assert [entry["name"] for entry in world.spec(found)["devices"]] == [device.cdi_id.partition("=")[2]]


async def test_a_subrequest_is_reported_under_its_request(world: World) -> None:
    found = claim("claim", result(request="gpu/big", memory="1000Mi"))
    world.add(found, pod())
    async with world.engine() as engine:
        assert [device.request for device in (await prepare(engine, found)).devices] == ["gpu"]


async def test_a_claim_without_a_card_of_this_node_is_prepared_with_nothing(world: World) -> None:
    found = claim("claim", result(driver="other.example"))
    world.add(found, pod())
    async with world.engine() as engine:
        assert await prepare(engine, found) == PreparedClaim()
    assert (world.records, world.cdi_files) == ([], [])


async def test_the_answer_is_the_same_for_ever(world: World) -> None:
    found = claim("claim", result(), result(share="b", request="r2", device="card-1"))
    world.cards.found = {c.name: c for c in (card(), card("card-1", pci="0000:af:00.0"))}
    world.add(found, pod())
    async with world.engine() as engine:
        first = await prepare(engine, found)
        assert await prepare(engine, found) == first
    async with world.engine() as engine:
        assert await prepare(engine, found) == first


async def test_a_record_says_when_the_claim_was_prepared_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    moments = [datetime(2026, 11, 22, 4, minute, tzinfo=UTC) for minute in (1, 2, 3)]
    monkeypatch.setattr(planning, "_now", lambda: moments.pop(0))
    async with world.engine() as engine:
        await prepare(engine, found)
        await prepare(engine, found)
        assert engine.records[uid_of("claim")].prepared == "2026-11-22T04:01:00Z"
        await unprepare(engine, found)
        await prepare(engine, found)
        assert engine.records[uid_of("claim")].prepared == "2026-11-22T04:02:00Z"


async def test_unprepare_leaves_nothing(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        assert world.regions
        await unprepare(engine, found)
        await unprepare(engine, found)
        assert engine.use("card-0").memory_mib == 0
    assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_unpreparing_an_unknown_claim_succeeds(world: World) -> None:
    async with world.engine() as engine:
        assert await engine.unprepare([ref(claim("never seen"))]) == {uid_of("never seen"): None}


async def test_one_bad_claim_of_a_batch_fails_alone(world: World) -> None:
    good = claim("good", result(), owner="pod")
    bad = claim("bad", result(memory="0", share="b"))
    missing = claim("missing", result())
    world.add(good, bad, pod(claims={"g": "good"}))
    async with world.engine() as engine:
        answers = await engine.prepare([ref(found) for found in (good, bad, missing)])
    assert isinstance(answers[uid_of("good")], PreparedClaim)
    assert {name: _reason(answers[uid_of(name)]) for name in ("bad", "missing")} == {
        "bad": "AllocationUnusable",
        "missing": "ClaimMissing",
    }


def _reason(answer: object) -> str:
    assert isinstance(answer, DragomanError)
    return answer.reason


async def test_claims_of_one_pod_are_read_once_for_a_call(world: World) -> None:
    names = ["a", "b", "c"]
    claims = [claim(name, result(share=name, device=f"card-{i}")) for i, name in enumerate(names)]
    world.cards.found = {f"card-{i}": card(f"card-{i}", pci=f"0000:0{i}:00.0") for i in range(3)}
    world.add(*claims, pod(claims={name: name for name in names}))
    async with world.engine() as engine:
        await engine.prepare([ref(found) for found in claims])
    assert sorted(world.claims.asked) == [
        ("Pod", "pod"),
        ("ResourceClaim", "a"),
        ("ResourceClaim", "b"),
        ("ResourceClaim", "c"),
    ]


async def test_the_index_counts_cards_of_all_claims_of_the_pod_in_pci_order(world: World) -> None:
    world.cards.found = {c.name: c for c in (card("z", pci="0000:01:00.0"), card("a", pci="0000:02:00.0"))}
    ours = claim("ours", result(device="a", memory="7Mi"))
    other = claim("other", result(device="z", share="b"))
    world.add(ours, other, pod(claims={"o": "ours", "x": "other"}))
    async with world.engine() as engine:
        await prepare(engine, ours)
    assert "LIMIT_1=7m" in world.env(ours)


async def test_two_concurrent_containers_on_one_limited_share_are_refused(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod(containers=(container("a", ("gpu", "")), container("b", ("gpu", "")))))
    async with world.engine() as engine:
        with pytest.raises(IsolationError) as refused:
            await prepare(engine, found)
    assert refused.value.reason == "ConcurrentContainers"
    assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_a_limit_is_refused_while_no_pod_of_the_claim_can_be_read(world: World) -> None:
    found = claim("claim", result())
    world.add(found)
    async with world.engine() as engine:
        with pytest.raises(PodUnknownError) as refused:
            await prepare(engine, found)
    assert refused.value.reason == "PodUnknown"
    assert refused.value.retriable


async def test_a_limited_claim_of_many_pods_is_refused_by_looking_at_two_of_them(world: World) -> None:
    names = tuple(f"pod-{number}" for number in range(50))
    found = claim("claim", result(), owner="", pods=names)
    world.add(found, *(pod(name) for name in names))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="pod-0, pod-1") as refused:
            await prepare(engine, found)
    assert refused.value.reason == "SharedBetweenPods"
    assert len(world.claims.asked) == 3


async def test_a_limited_claim_made_for_another_pod_is_refused(world: World) -> None:
    found = claim("claim", result(), owner="another", pods=("pod",))
    world.add(found, pod())
    async with world.engine() as engine:
        with pytest.raises(IsolationError) as refused:
            await prepare(engine, found)
    assert refused.value.reason == "SharedBetweenPods"


async def test_a_whole_card_needs_no_look_at_pods(world: World) -> None:
    found = claim("claim", result(memory="1000Mi"), owner="", pods=("a", "b"))
    world.add(found)
    async with world.engine() as engine:
        await prepare(engine, found)
    assert world.claims.asked == [("ResourceClaim", "claim")]
    assert world.env(found) == {"VENDOR=test"}


async def test_without_limits_in_force_several_pods_may_share_a_claim(world: World) -> None:
    world.cards.level = IsolationLevel.NONE
    found = claim("claim", result(), owner="", pods=("a", "b"))
    world.add(found, pod("a"), pod("b"))
    async with world.engine() as engine:
        assert (await prepare(engine, found)).devices


async def test_another_claim_of_the_pod_that_is_not_allocated_is_named(world: World) -> None:
    ours, other = claim("ours", result()), claim("other")
    world.add(ours, other, pod(claims={"o": "ours", "x": "other"}))
    async with world.engine() as engine:
        with pytest.raises(ClaimError, match="default/other of the same pod is not allocated") as refused:
            await prepare(engine, ours)
    assert refused.value.retriable


async def test_administrative_access_gets_device_nodes_only_and_holds_nothing(world: World) -> None:
    whole = claim("whole", result(memory="1000Mi"))
    admin = claim("admin", result(share="", adminAccess=True))
    world.add(whole, admin)
    async with world.engine() as engine:
        await prepare(engine, whole)
        await prepare(engine, admin)
        assert engine.use("card-0").memory_mib == 1000
    edits = world.spec(admin)["devices"][0]["containerEdits"]
    assert edits == {"deviceNodes": [{"path": "/dev/card-0"}]}


async def test_the_config_of_a_request_reaches_its_isolation(world: World) -> None:
    found = claim("claim", result(cores="30"), config=(share_config(corePolicy="disable"),))
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        record = engine.records[uid_of("claim")]
    assert (record.shares[0].core_policy, record.shares[0].cores_level) == ("disable", None)


@pytest.mark.parametrize(("said", "stored"), [({"priority": "high"}, "high"), ({}, "")])
async def test_the_priority_that_the_author_states_is_remembered(
    world: World, said: dict[str, str], stored: str
) -> None:
    found = claim("claim", result(cores="30"), config=(share_config(**said),))
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        assert engine.records[uid_of("claim")].shares[0].priority == stored


async def test_a_full_card_is_refused_for_good_while_its_holders_live(world: World) -> None:
    first = claim("first", result(memory="600Mi"))
    second = claim("second", result(memory="500Mi", share="b"), owner="other", pods=("other",))
    world.add(first, second, pod(claims={"a": "first"}), pod("other", claims={"b": "second"}))
    async with world.engine() as engine:
        await prepare(engine, first)
        with pytest.raises(OverCommitError) as refused:
            await prepare(engine, second)
    assert (refused.value.reason, refused.value.retriable) == ("OverCommit", False)


async def test_a_full_card_whose_holder_is_gone_is_refused_with_the_hint_to_wait(world: World) -> None:
    first, second = claim("first", result(memory="600Mi")), claim("second", result(memory="500Mi", share="b"))
    world.add(first, second, pod(claims={"a": "first"}))
    async with world.engine() as engine:
        await prepare(engine, first)
        world.claims.drop(first)
        world.add(pod(claims={"b": "second"}))
        with pytest.raises(OverCommitReleasingError) as refused:
            await prepare(engine, second)
        assert (refused.value.reason, refused.value.retriable) == ("WaitingForRelease", True)
        await unprepare(engine, first)
        assert (await prepare(engine, second)).devices


async def test_a_claim_whose_card_is_gone_is_refused(world: World) -> None:
    found = claim("claim", result(device="card-9"))
    world.add(found, pod())
    async with world.engine() as engine:
        with pytest.raises(DeviceGoneError):
            await prepare(engine, found)


async def test_a_claim_made_anew_under_its_name_is_refused(world: World) -> None:
    old = claim("claim", result())
    world.add(claim("claim", result(), uid="another"), pod())
    async with world.engine() as engine:
        with pytest.raises(ClaimError) as refused:
            await prepare(engine, old)
    assert refused.value.reason == "ClaimReplaced"


async def test_a_uid_that_is_no_file_name_is_refused(world: World) -> None:
    found = claim("claim", result(), uid="../../etc/passwd")
    world.add(found, pod())
    async with world.engine() as engine:
        with pytest.raises(ClaimError, match="cannot be the UID"):
            await prepare(engine, found)
        with pytest.raises(ClaimError, match="cannot be the UID"):
            await unprepare(engine, found)


async def test_a_prepared_claim_is_answered_while_the_api_server_is_away(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        first = await prepare(engine, found)
    world.claims.away = True
    async with world.engine() as engine:
        assert await prepare(engine, found) == first


async def test_a_new_claim_is_refused_while_the_api_server_is_away_and_waiting_helps(world: World) -> None:
    world.claims.away = True
    async with world.engine() as engine:
        with pytest.raises(KubeError) as refused:
            await prepare(engine, claim("claim", result()))
    assert refused.value.retriable


async def test_another_allocation_of_the_same_claim_takes_the_place_of_the_former(world: World) -> None:
    world.add(claim("claim", result(memory="600Mi")), pod())
    again = claim("claim", result(memory="700Mi", share="b"))
    async with world.engine() as engine:
        before = await prepare(engine, claim("claim", result()))
        world.add(again)
        after = await prepare(engine, again)
        assert engine.use("card-0").memory_mib == 700
    assert before.devices[0].cdi_id != after.devices[0].cdi_id
    assert "LIMIT_0=700m" in world.env(again)


async def test_a_failing_isolation_leaves_nothing(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    world.cards.refuse_edits = IsolationError("The library is missing.")
    async with world.engine() as engine:
        with pytest.raises(IsolationError):
            await prepare(engine, found)
        assert engine.use("card-0").memory_mib == 0
    assert (world.records, world.cdi_files) == ([], [])


async def test_an_unexpected_fault_is_an_answer_and_spares_other_claims(world: World) -> None:
    world.cards.found["card-1"] = card("card-1", pci="0000:af:00.0")
    good, bad = claim("good", result(memory="1000Mi")), claim("bad", result(device="card-1", share="b"))
    world.add(good, bad, pod(claims={"b": "bad"}))
    world.cards.refuse = ZeroDivisionError()
    async with world.engine() as engine:
        answers = await engine.prepare([ref(good), ref(bad)])
    assert isinstance(answers[uid_of("good")], PreparedClaim)
    assert _reason(answers[uid_of("bad")]) == "PrepareRefused"


async def test_cdi_files_come_back_after_the_folder_was_wiped(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        before = world.cdi_files[0].read_bytes()
        shutil.rmtree(world.folder / "cdi")
        await engine.restore()
        assert world.cdi_files[0].read_bytes() == before
        shutil.rmtree(world.folder / "cdi")
        await prepare(engine, found)
        assert world.cdi_files[0].read_bytes() == before


async def test_a_changed_cdi_file_is_written_anew(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        before = world.cdi_files[0].read_bytes()
        world.cdi_files[0].write_bytes(b"{}")
        await engine.restore()
    assert world.cdi_files[0].read_bytes() == before


async def test_files_of_nobody_are_removed_and_those_of_others_stay(world: World) -> None:
    cdi = world.folder / "cdi"
    cdi.mkdir()
    (cdi / "dragoman.dev-share-dead.json").write_text("{}")
    (cdi / ".dragoman.dev-share-dead.json.00.tmp").write_text("{")
    (cdi / "nvidia.yaml").write_text("{}")
    async with world.engine():
        assert [path.name for path in world.cdi_files] == ["nvidia.yaml"]


async def test_limits_of_nobody_are_removed_from_the_node(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        (world.cards.region / f"{uid_of('dead')}.gpu").mkdir()
        await engine.restore()
        assert [path.name for path in world.regions] == [f"{uid_of('claim')}.gpu"]


async def test_leftovers_that_cannot_be_removed_do_not_stop_the_agent(world: World) -> None:
    path = world.cards.region / f"{uid_of('dead')}.gpu"
    (path / "busy").mkdir(parents=True)
    async with world.engine() as engine:
        assert "cannot be removed" in engine.problems[0]
        (path / "busy").rmdir()
        await engine.restore()
        assert engine.problems == ()
    assert world.regions == []


async def with_two_empty_records(world: World) -> None:
    for name, memory in (("a", "100Mi"), ("b", "800Mi")):
        found = claim(name, result(memory=memory, share=name), pods=(name,), owner=name)
        world.add(found, pod(name, claims={"gpu": name}))
        async with world.engine() as engine:
            await prepare(engine, found)
    for name in ("a", "b"):
        (world.folder / "state" / "claims" / f"{uid_of(name)}.json").write_bytes(b"")


async def test_two_damaged_records_do_not_wait_for_each_other(world: World) -> None:
    await with_two_empty_records(world)
    async with world.engine() as engine:
        for name, memory in (("a", "100Mi"), ("b", "800Mi")):
            await prepare(engine, claim(name, result(memory=memory, share=name), pods=(name,), owner=name))
        assert engine.use("card-0").memory_mib == 900
        assert engine.problems == ()


async def test_a_claim_that_was_allocated_anew_waits_for_other_damaged_records(world: World) -> None:
    await with_two_empty_records(world)
    larger = claim("a", result(memory="900Mi", share="another"), pods=("a",), owner="a")
    world.add(larger)
    async with world.engine() as engine:
        with pytest.raises(OverCommitReleasingError, match="cannot be read"):
            await prepare(engine, larger)
        assert engine.use("card-0").memory_mib == 0


async def test_unpreparing_a_claim_whose_record_is_damaged_removes_its_limits(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
    (world.folder / "state" / "claims" / f"{uid_of('claim')}.json").write_bytes(b"")
    async with world.engine() as engine:
        assert len(world.regions) == 1
        await unprepare(engine, found)
    assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_a_claim_whose_card_is_gone_after_a_restart_stays_reserved_and_is_reported(
    world: World,
) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
    shutil.rmtree(world.folder / "cdi")
    cards, world.cards.found = world.cards.found, {}
    async with world.engine() as engine:
        assert "default/claim cannot be restored" in engine.problems[0]
        world.cards.found = cards
        await engine.restore()
        assert engine.problems == ()
        assert engine.use("card-0").memory_mib == 100
    assert len(world.cdi_files) == 1


async def test_the_same_claim_asked_for_at_the_same_time_is_prepared_once(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        answers = await asyncio.gather(*(prepare(engine, found) for _ in range(8)))
        assert engine.use("card-0").memory_mib == 100
    assert all(answer == answers[0] for answer in answers)


async def test_a_call_that_is_given_up_is_finished_and_answered_next_time(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        # Another agent has the lock meanwhile, or the call could be done before it is given up.
        other = os.open(world.folder / "state" / "lock", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        call = asyncio.create_task(engine.prepare([ref(found)]))
        assert await asyncio.to_thread(world.claims.was_asked.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        os.close(other)
        assert (await prepare(engine, found)).devices
        assert engine.use("card-0").memory_mib == 100


async def test_a_stricter_policy_does_not_disturb_what_is_prepared(world: World) -> None:
    found = claim("claim", result(memory="900Mi"))
    world.add(found, pod())
    async with world.engine() as engine:
        first = await prepare(engine, found)
        world.cards.found["card-0"] = card(mib=500, allow_uncapped=False, unpublished="Excluded by policy.")
        assert await prepare(engine, found) == first


async def test_a_second_agent_answers_for_what_the_first_one_prepared(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as first, world.engine() as second:
        answer = await prepare(first, found)
        assert await prepare(second, found) == answer
        await unprepare(second, found)
        assert await prepare(first, found) == answer
        assert len(world.records) == 1


@pytest.mark.parametrize("why", ["excluded", "isolation"])
async def test_what_the_first_agent_prepared_the_second_one_does_not_refuse(world: World, why: str) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as second, world.engine() as first:
        answer = await prepare(first, found)
        if why == "excluded":
            world.cards.found = {"card-0": card(unpublished="Excluded by policy.")}
        else:
            world.cards.refuse = IsolationError("The policy forbids it.")
        assert await prepare(second, found) == answer


async def test_a_state_folder_that_cannot_be_written_is_a_refusal_with_a_remedy(world: World) -> None:
    found = claim("claim", result(memory="1000Mi"))
    world.add(found)
    async with world.engine() as engine:
        shutil.rmtree(world.folder / "state" / "claims")
        with pytest.raises(DragomanError) as refused:
            await prepare(engine, found)
        (world.folder / "state" / "claims").mkdir()
        assert (await prepare(engine, found)).devices
    assert refused.value.reason == "NodeStorage"
    assert refused.value.retriable


async def test_the_event_loop_goes_on_while_another_agent_holds_the_lock(world: World) -> None:
    found = claim("claim", result(memory="1000Mi"))
    world.add(found)
    async with world.engine() as engine:
        other = os.open(world.folder / "state" / "lock", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = asyncio.create_task(prepare(engine, found))
        assert await asyncio.to_thread(world.claims.was_asked.wait, 10)
        for _ in range(20):
            await asyncio.to_thread(engine.use, "card-0")
            assert engine.records == {}
        assert not waiting.done()
        os.close(other)
        assert (await waiting).devices


async def test_a_lock_that_another_agent_keeps_is_a_refusal_that_says_to_wait(world: World) -> None:
    found = claim("claim", result(memory="1000Mi"))
    world.add(found)
    async with world.engine(lock_wait_s=0.02) as engine:
        other = os.open(world.folder / "state" / "lock", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DragomanError, match="Look for a second, stopped agent") as refused:
            await prepare(engine, found)
        os.close(other)
    assert refused.value.retriable
    assert (world.records, world.cdi_files) == ([], [])


async def test_phases_are_measured(world: World) -> None:
    seen: dict[str, int] = {}

    class Recorder:
        def observe(self, phase: str, *, seconds: float) -> None:
            assert 0 <= seconds < 60
            seen[phase] = seen.get(phase, 0) + 1

    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine(recorder=Recorder()) as engine:
        await prepare(engine, found)
    assert seen.keys() == {"fetch", "guard", "state", "isolation", "cdi"}
