"""No vendor believes what a node says: files that lie, programs that fail, cards that come and go."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.errors import DragomanError
from driver.host import CommandResult
from driver.vendors.base import Discovery, Vendor
from driver.vendors.catalogue import VENDORS
from driver.vendors.facts import Identity
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.reading import REPORT_LIMIT
from tests.driver.vendors.fixture_node import FixtureNode, read_node
from tests.support.folder_host import FolderHost

IDENTITY = {facts.name: facts.identity for facts in VENDORS}
NAMES = sorted(IDENTITY)
# NVIDIA and Ascend ask a library, AMD, Biren and Intel sysfs alone.
WITH_PROGRAM = [name for name in NAMES if read_node(name).answers]
# Neuron devices have no number of their own; of Hygon's the place is asked again, and nothing else.
WITH_NUMBERS = [name for name in WITH_PROGRAM if name not in {"hygon", "neuron"}]

FILES = {
    "empty": "",
    "words": "no such thing \x1b[31m",
    "enormous number": "9" * 4000,
    "too long": "1" * (REPORT_LIMIT + 1),
}
ANSWERS = {
    "nothing": "",
    "words": "Error: driver not loaded \x1b[0m\n",
    "null": "null",
    "an empty list": "[]",
    "an empty object": "{}",
    "other types": '{"GPU": [1, null, {"PCI": [], "Index": true}], "elem": {}, "a": 5, "b": {"PCI Bus": 1}}',
    "a list of other types": '[1, null, true, [], {"bdf": [1]}, {"bdf": "00:1e.0", "memory_size": true}]',
    "numbers without end": '[{"bdf": "00:1e.0", "memory_size": ' + "9" * 3000 + ', "neuron_device": 1e400}]',
    "no end of brackets": "[" * 60_000,
    "deep brackets": "[" * 5000 + "]" * 5000,
    "many lines": "a : b\n" * 3_000,
    "deep indents": "".join(f"{' ' * depth}x:\n" for depth in range(500)),
    "one long line": "0000:3b:00.0 " * 10_000,
    "zero bytes": "\0" * 5000,
}
FAILURES: dict[str, CommandResult | Exception] = {
    "an error": CommandResult(returncode=9, stdout="", stderr="NPU \x1b[31m is \n lost " * 500),
    "an error without words": CommandResult(returncode=-11, stdout="", stderr=""),
    "no end": TimeoutError("did not answer in 10 s"),
    "no right to run it": PermissionError(errno.EACCES, "Permission denied"),
    "not installed": FileNotFoundError(errno.ENOENT, "No such file or directory"),
    "too much": OSError(errno.EFBIG, "File too large"),
}


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in ("MOCK_NVML_FILE", "MOCK_DCMI_FILE"):
        monkeypatch.setenv(variable, "")
    yield
    with suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


class Attacked:
    """A vendor on its fixture, of which the test changes something."""

    def __init__(self, name: str, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.node: FixtureNode = read_node(name)
        self.host: FolderHost = self.node.host(root)
        self.vendor: Vendor = self.node.vendor(self.host)
        self.cards: tuple[Card, ...] = self.vendor.discover(self.host).cards
        assert len(self.cards) == len(self.node.expect)

    def sysfs(self) -> dict[str, str]:
        """The files to damage: of one card, and those of all, which are read alike for all but NVIDIA."""
        everywhere = ("/vendor", "/device", "/class", "/numa_node")
        others = tuple(f"/{card.pci_bus_id}/" for card in self.cards[1:])
        return {
            path: text
            for path, text in self.node.files.items()
            if path.startswith("/sys/")
            and (self.name in {"amd", "nvidia"} or not path.endswith(everywhere))
            and not any(other in path for other in others)
        }

    def check(self, *, silent: bool = False) -> Discovery:
        """Whatever is believed is true, whatever is not believed is said."""
        found = self.vendor.discover(self.host)
        known = {(card.name, card.memory_bytes) for card in self.cards}
        if IDENTITY[self.name] is Identity.UUID_ELSE_PCI:
            known |= {(_pci_name(card), card.memory_bytes) for card in self.cards}
        assert {(card.name, card.memory_bytes) for card in found.cards} <= known
        assert silent or found.problems or len(found.cards) == len(self.cards)
        for problem in found.problems:
            assert problem.isprintable(), problem
            assert len(problem) < 1000
        for card in self.cards:
            self.check_edits(card)
        for health in self.vendor.health(self.cards, host=self.host):
            assert health.health in {"Healthy", "Unhealthy", "Unknown"}
        return found

    def check_edits(self, card: Card) -> None:
        """A container gets its own card or a refusal, never another card."""
        try:
            edits = self.vendor.edits(card, host=self.host)
        except DragomanError:
            return
        expected = next(one for one in self.node.expect if one["name"] == card.name)
        others = {path for one in self.node.expect if one is not expected for path in one["own"]}
        assert others.isdisjoint(_nodes(edits))
        assert _nodes(edits) & set(expected["own"])


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_lies_costs_its_card_at_most(name: str, content: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    for path, before in attacked.sysfs().items():
        attacked.host.local(path).write_text(content)
        # An empty file of a function's vendor is as good as none.
        found = attacked.check(silent=path.endswith("/vendor") and not content)
        # A file of one card is no reason to lose the others; nor is any file that all of them share.
        assert len(found.cards) >= len(attacked.cards) - 1, path
        attacked.host.local(path).write_text(before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("instead", ["missing", "a folder"])
def test_a_file_that_cannot_be_read_costs_its_card_at_most(name: str, instead: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    for path, before in attacked.sysfs().items():
        local = attacked.host.local(path)
        local.unlink()
        if instead == "a folder":
            local.mkdir()
        # Without its vendor or class a function is not known to be anybody's card.
        gone = path.endswith("/vendor") and instead == "missing"
        found = attacked.check(silent=gone)
        assert len(found.cards) >= len(attacked.cards) - 1, path
        if instead == "a folder":
            local.rmdir()
        local.write_text(before)
    assert len(attacked.check().cards) == len(attacked.cards)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("name", WITH_PROGRAM)
def test_a_program_that_answers_nonsense_is_not_believed(name: str, answer: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    for question, before in list(attacked.node.answers.items()):
        attacked.node.answers[question] = answer
        attacked.check()
        attacked.node.answers[question] = before


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("name", WITH_PROGRAM)
def test_a_program_that_fails_is_a_problem_with_its_name(
    name: str, failure: CommandResult | Exception, tmp_path: Path
) -> None:
    attacked = Attacked(name, tmp_path / "node")
    for program in attacked.node.programs:
        attacked.node.failing = {program: failure}
        # After a start of the agent there is nothing that it said before.
        for vendor in (attacked.vendor, attacked.node.vendor(attacked.host)):
            attacked.vendor = vendor
            assert program.rpartition("/")[2] in " ".join(attacked.check().problems)


@pytest.mark.parametrize("name", [name for name in WITH_PROGRAM if name != "hygon"])
def test_a_program_that_fails_for_some_looks_does_not_withdraw_the_cards(name: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    attacked.node.failing = dict.fromkeys(attacked.node.programs, TimeoutError("did not answer in 10 s"))
    looks = [attacked.vendor.discover(attacked.host) for _ in range(7)]
    assert [look.cards == attacked.cards for look in looks] == [True] * 5 + [False] * 2
    assert all(look.problems for look in looks)
    assert looks[-1].cards == ()
    attacked.node.failing = {}
    assert attacked.vendor.discover(attacked.host).cards == attacked.cards


@pytest.mark.parametrize("name", [name for name in WITH_PROGRAM if name != "hygon"])
def test_a_card_that_was_away_while_its_program_failed_is_not_believed_to_be_the_same(
    name: str, tmp_path: Path
) -> None:
    attacked = Attacked(name, tmp_path / "node")
    attacked.node.failing = dict.fromkeys(attacked.node.programs, TimeoutError("did not answer in 10 s"))
    first = attacked.cards[0]
    link = attacked.host.local(f"/sys/bus/pci/devices/{first.pci_bus_id}")
    target = link.readlink()
    link.unlink()
    assert attacked.vendor.discover(attacked.host).cards == attacked.cards[1:]
    link.symlink_to(target)
    assert attacked.vendor.discover(attacked.host).cards == attacked.cards[1:]


@pytest.mark.parametrize("name", WITH_PROGRAM)
def test_a_program_that_fails_for_a_moment_makes_prepare_try_again(name: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    attacked.node.failing = dict.fromkeys(attacked.node.programs, TimeoutError("did not answer in 10 s"))
    for card in attacked.cards:
        with suppress(DeviceNodesMissingError):
            attacked.vendor.edits(card, host=attacked.host)
    attacked.node.failing = {}
    assert len(attacked.check().cards) == len(attacked.cards)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_that_vanishes_while_it_is_listed_does_not_take_the_others_along(
    name: str, tmp_path: Path
) -> None:
    attacked = Attacked(name, tmp_path / "node")
    first = attacked.cards[0]
    place = attacked.host.resolve(f"/sys/bus/pci/devices/{first.pci_bus_id}")
    # The link is still there, what it leads to is not.
    attacked.host.remove_tree(place)
    found = attacked.check(silent=True)
    assert {card.name for card in attacked.cards[1:]} <= {card.name for card in found.cards}
    # NVML knows NVIDIA's cards without sysfs.
    if name != "nvidia":
        with pytest.raises(DragomanError):
            attacked.vendor.edits(first, host=attacked.host)


@pytest.mark.parametrize("file", ["device", "class"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "nvidia"])
def test_a_card_that_vanishes_while_it_is_read_is_left_out_with_the_reason(
    name: str, file: str, tmp_path: Path
) -> None:
    attacked = Attacked(name, tmp_path / "node")
    first = attacked.cards[0]
    attacked.host.local(f"/sys/bus/pci/devices/{first.pci_bus_id}/{file}").unlink()
    found = attacked.check()
    assert first.name not in {card.name for card in found.cards}
    assert any(
        first.pci_bus_id in problem and f"/{file} is not there" in problem for problem in found.problems
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nvidia"])
def test_a_card_that_is_cut_into_virtual_functions_is_not_offered_and_says_why(
    name: str, tmp_path: Path
) -> None:
    attacked = Attacked(name, tmp_path / "node")
    first = attacked.cards[0]
    attacked.host.add(f"/sys/bus/pci/devices/{first.pci_bus_id}/sriov_numvfs", "4\n")
    found = {card.name: card.unpublished for card in attacked.check().cards}
    assert "4 virtual functions" in found[first.name]
    assert [reason for card, reason in found.items() if card != first.name] == [""] * (len(found) - 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nvidia"])
def test_a_virtual_function_is_not_taken_for_a_card(name: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    first = attacked.cards[0]
    attacked.host.link(f"/sys/bus/pci/devices/{first.pci_bus_id}/physfn", "../whole")
    attacked.host.add(f"{_parent(attacked.host, first)}/whole/vendor", "0x0000\n")
    assert first.name not in {card.name for card in attacked.check(silent=True).cards}


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_a_card_that_was_replaced_is_not_given_out_for_the_old_one(name: str, tmp_path: Path) -> None:
    attacked = Attacked(name, tmp_path / "node")
    card = attacked.cards[0]
    for question, answer in attacked.node.answers.items():
        attacked.node.answers[question] = answer.replace(card.uuid, f"{card.uuid[:-1]}F")
    with pytest.raises(DragomanError, match="Another card is at"):
        attacked.vendor.edits(card, host=attacked.host)


@pytest.mark.parametrize("name", [name for name in NAMES if not read_node(name).library])
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_damage_makes_a_vendor_raise(name: str, data: st.DataObject, tmp_path: Path) -> None:
    attacked = _once(name, tmp_path / "node")
    sources: list[Any] = [*attacked.node.answers, *(one for one in attacked.node.files if one[:5] == "/sys/")]
    source = data.draw(st.sampled_from(sources))
    before = attacked.node.answers[source] if isinstance(source, tuple) else attacked.node.files[source]
    start = data.draw(st.integers(0, len(before)))
    end = data.draw(st.integers(start, min(len(before), start + 40)))
    damaged = before[:start] + data.draw(st.text(max_size=12)) + before[end:]
    try:
        _set(attacked, source, damaged)
        attacked.vendor.discover(attacked.host)
        attacked.vendor.health(attacked.cards, host=attacked.host)
        for card in attacked.cards:
            with suppress(DragomanError):
                attacked.vendor.edits(card, host=attacked.host)
    finally:
        _set(attacked, source, before)


_MADE: dict[tuple[str, Path], Attacked] = {}


def _once(name: str, root: Path) -> Attacked:
    """Made once for all examples of a test."""
    if (name, root) not in _MADE:
        _MADE[name, root] = Attacked(name, root)
    return _MADE[name, root]


def _set(attacked: Attacked, source: Any, text: str) -> None:
    if isinstance(source, tuple):
        attacked.node.answers[source] = text
    else:
        attacked.host.local(source).write_text(text, encoding="utf-8", errors="surrogatepass")


def _parent(host: FolderHost, card: Card) -> str:
    return host.resolve(f"/sys/bus/pci/devices/{card.pci_bus_id}").rpartition("/")[0]


def _pci_name(card: Card) -> str:
    return "pci-" + card.pci_bus_id.replace(":", "-").replace(".", "-")


def _nodes(edits: ContainerEdits) -> set[str]:
    return {node.host_path or node.path for node in edits.device_nodes}
