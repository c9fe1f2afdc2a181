"""Instances that are not the claim's own: an administrator's, another claim's, and those of before a boot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from driver.isolation.partition_notes import Note
from driver.partitions.base import PartitionBusyError
from tests.driver.vendors.mig_world import P_3G, state
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld
from tests.kubelet_plugin.partitions.test_hardware import CLAIM, HALF, OTHER_HALF, Node, context, share

ANOTHER = "0e2f8c9a-0000-4000-8000-00000000000d"
BY_HAND = (f"mode {UUIDS[0]} 1", f"gi {UUIDS[0]} 1 {P_3G} 4 4", f"ci {UUIDS[0]} 1 0 2 77")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    found = Node(tmp_path, NvmlWorld(tmp_path / "nvml.txt"))
    yield found
    found.nvml.close()


@pytest.mark.parametrize("verb", ["nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy"])
def test_one_that_somebody_removes_at_the_same_moment_is_removed_all_the_same(
    node: Node, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    node.prepare()
    destroy = getattr(pynvml, verb)

    def destroyed_before(one: Any) -> None:
        destroy(one)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    monkeypatch.setattr(pynvml, verb, destroyed_before)
    node.unprepare()
    assert node.there == []
    assert node.hardware.claims(host=node.host) == frozenset()


def test_one_that_stays_though_it_was_not_found_keeps_its_note(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.prepare()

    def not_found(_one: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    with monkeypatch.context() as patched:
        patched.setattr(pynvml, "nvmlGpuInstanceDestroy", not_found)
        with pytest.raises(PartitionBusyError):
            node.unprepare()
    assert node.hardware.claims(host=node.host) == {CLAIM}
    node.unprepare()
    assert node.there == []


def test_what_is_not_found_on_a_card_does_not_make_the_card_gone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.prepare()

    def not_found(*_: Any, **__: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    with monkeypatch.context() as patched:
        # Where nobody expects it.
        patched.setattr(pynvml, "nvmlDeviceGetMaxMigDeviceCount", not_found)
        with pytest.raises(PartitionBusyError):
            node.unprepare()
    assert node.hardware.claims(host=node.host) == {CLAIM}


def test_one_that_was_made_for_another_claim_is_given_to_nobody_until_that_is_cleaned_up(node: Node) -> None:
    # Of whose record nothing is left.
    node.prepare(claim=ANOTHER)
    with pytest.raises(PartitionBusyError) as refused:
        node.prepare()
    assert refused.value.retriable
    node.hardware.undo_claim(ANOTHER, host=node.host)
    node.prepare()
    assert node.there == [(P_3G, 4)]
    node.unprepare()
    assert node.there == []


def test_nor_is_one_that_was_to_be_made_for_it(node: Node) -> None:
    node.notes.put(note(node, claim=ANOTHER))
    with pytest.raises(PartitionBusyError):
        node.prepare()
    assert node.there == []


def test_what_was_made_for_another_claim_before_a_boot_is_in_nobodys_way(node: Node) -> None:
    node.prepare(claim=ANOTHER)
    node.reboot()
    node.prepare()
    node.hardware.undo_claim(ANOTHER, host=node.host)
    assert node.there == [(P_3G, 4)]


def test_what_stands_where_one_was_to_be_made_before_a_boot_is_somebody_elses(node: Node) -> None:
    node.notes.put(note(node))
    node.reboot()
    node.made_by_hand(*BY_HAND)
    node.unprepare()
    assert node.there == [(P_3G, 4)]
    assert node.hardware.claims(host=node.host) == frozenset()


def test_one_that_got_the_uuid_of_one_of_before_a_boot_is_somebody_elses(node: Node) -> None:
    node.prepare()
    before = state(node.world).read_text()
    node.reboot()
    # UUIDs may follow from the place alone.
    node.made_by_hand(*before.splitlines())
    node.unprepare()
    assert node.there == [(P_3G, 4)]


def test_a_container_that_runs_with_the_nodes_of_a_lost_instance_is_not_held(node: Node) -> None:
    mine = node.prepare()
    for path in mine:
        node.host.add(f"/proc/4711/root{path}")
    node.made_by_hand(f"mode {UUIDS[0]} 1")
    assert node.prepare(OTHER_HALF, claim=ANOTHER) == mine
    node.prepare()
    card = node.card()
    seen = node.hardware.in_force(share(card), context=context(card), host=node.host, pid=4711)
    assert (seen.holds, seen.known, seen.reason) == (False, True, "PartitionMadeAnew")
    assert seen.remedy == "Delete the pod."


def note(node: Node, *, claim: str = CLAIM) -> Note:
    return Note(claim_uid=claim, device=HALF, vendor="nvidia", card_uuid=UUIDS[0], boot=node.notes.boot())
