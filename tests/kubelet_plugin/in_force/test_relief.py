from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driver.isolation.region import read_region
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force.looks import LookGivenUpError
from kubelet_plugin.in_force.relief import Holder, Relief, holder_of, wanted_switches
from kubelet_plugin.in_force.usage import Use, read_uses
from tests.driver.isolation import regions
from tests.kubelet_plugin.in_force.hanging import HangingRound
from tests.kubelet_plugin.in_force.test_usage import NOW, place, share, uses


def switches(found: list[Use], *, now: float = NOW) -> dict[str, int]:
    holders: dict[str, set[Holder]] = {}
    for use in found:
        holders.setdefault(use.record.share.device, set()).add(holder_of(use.record))
    return wanted_switches(found, holders=holders, now=now)


def test_who_is_alone_on_its_card_has_no_cap(tmp_path: Path) -> None:
    assert switches(uses(tmp_path, share("u1"), share("u2", device="card-1"))) == {"/u1": 0, "/u2": 0}


def test_who_computes_beside_another_has_its_cap_and_so_has_the_other(tmp_path: Path) -> None:
    assert switches(uses(tmp_path, share("u1"), share("u2"))) == {"/u1": 1, "/u2": 1}


def test_a_neighbour_that_launched_nothing_lately_does_not_count(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"), share("u2"))
    assert switches(found, now=NOW + 60) == {"/u1": 0, "/u2": 0}


def test_a_neighbour_that_says_to_compute_in_the_future_does_not_count(tmp_path: Path) -> None:
    hours = regions.made(last=int(NOW) + 7200)
    ages = regions.made(last=(1 << 64) - 1)
    for content in (hours, ages):
        (tmp_path / "u2").write_bytes(content)
        assert switches(uses(tmp_path, share("u1"), share("u2"))) == {"/u1": 0, "/u2": 1}


def test_a_neighbour_whose_activity_nobody_knows_counts(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"))
    holders = {"card-0": [("u1", "gpu"), ("u2", "gpu")]}
    assert wanted_switches(found, holders=holders, now=NOW) == {"/u1": 1}


def test_a_neighbour_without_a_region_counts_however_many_regions_there_are(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1"))
    (tmp_path / "second").write_bytes(regions.made())
    found += read_uses([(place("u1"), share("u1"), "/second")], host=NodeHost(tmp_path))
    holders = {"card-0": [("u1", "gpu"), ("u2", "gpu")]}
    later = NOW + 60
    assert wanted_switches(found, holders=holders, now=later) == {"/u1": 1, "/second": 1}
    assert wanted_switches(found, holders={"card-0": [("u1", "gpu")]}, now=later) == {"/u1": 0, "/second": 0}


def test_only_shares_whose_author_let_go_of_the_cap_have_a_switch(tmp_path: Path) -> None:
    found = uses(tmp_path, share("u1", policy="force"), share("u2", policy="disable"))
    assert switches(found) == {}


def test_a_region_with_two_cards_is_relieved_only_if_it_is_alone_on_both(tmp_path: Path) -> None:
    both = [share("u1"), share("u1", device="card-1", index=1)]
    assert switches(uses(tmp_path, *both)) == {"/u1": 0}
    assert switches(uses(tmp_path, *both, share("u2", device="card-1", policy="force"))) == {"/u1": 1}


class Node:
    """Regions of two shares on a card of which the first one alone computes, and who takes its cap off."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = NodeHost(root)
        self.made = Relief(host=self.host)
        (root / "u2").write_bytes(regions.made(last=0))
        (root / "u1").write_bytes(regions.made())

    def uses(self) -> list[Use]:
        return uses(self.root, share("u1"), share("u2", policy="force"))

    def round(self, **options: Any) -> None:
        holders = {"card-0": [("u1", "gpu"), ("u2", "gpu")]}
        self.made.round(self.uses(), holders=holders, now=options.pop("now", NOW), **options)

    def neighbour_computes(self) -> None:
        (self.root / "u2").write_bytes(regions.made())

    def capped(self) -> bool:
        return bool(read_region("/u1", host=self.host).utilization_switch)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_cap_is_off_while_nobody_else_computes(node: Node) -> None:
    node.round()
    assert not node.capped()
    node.neighbour_computes()
    node.round()
    assert node.capped()


def test_a_switch_is_written_only_where_it_differs(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = NodeHost.write_part

    def noted(self: NodeHost, path: str, content: bytes, *, offset: int) -> None:
        written.append(path)
        write(self, path, content, offset=offset)

    monkeypatch.setattr(NodeHost, "write_part", noted)
    for _ in range(3):
        node.round()
    assert written == ["/u1"]


def test_a_region_that_vanished_since_it_was_read_is_no_trouble(node: Node) -> None:
    found = node.uses()
    (node.root / "u1").unlink()
    node.made.round(found, holders={}, now=NOW)
    node.made.end()
    assert not (node.root / "u1").exists()


def test_a_region_that_is_not_seen_any_more_does_not_keep_its_cap_off(node: Node) -> None:
    node.round()
    node.made.round([], holders={}, now=NOW)
    assert node.capped()


def test_caps_that_were_given_back_come_off_again_in_the_next_round_but_not_after_the_end(node: Node) -> None:
    node.round()
    node.made.give_back()
    assert node.capped()
    node.round()
    assert not node.capped()
    node.made.end()
    node.round()
    assert node.capped()


def test_a_round_that_is_given_up_takes_no_cap_off_and_leaves_none_off(node: Node) -> None:
    def given_up() -> None:
        raise LookGivenUpError

    with pytest.raises(LookGivenUpError):
        node.round(goes_on=given_up)
    assert node.capped()
    node.round()
    steps = iter([True, False])

    def meanwhile() -> None:
        if not next(steps):
            raise LookGivenUpError

    with pytest.raises(LookGivenUpError):
        node.round(goes_on=meanwhile)
    assert node.capped()


@pytest.mark.parametrize("how", ["given back", "end"])
def test_a_round_that_hangs_in_a_write_leaves_no_cap_off_after_they_were_given_back(
    node: Node, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = HangingRound(
        lambda goes_on: node.round(goes_on=goes_on),
        owner=NodeHost,
        method="write_part",
        monkeypatch=monkeypatch,
    )
    if how == "end":
        node.made.end()
    else:
        late.give_up()
        node.made.give_back()
    late.answer()
    assert node.capped()
