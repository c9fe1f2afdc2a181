from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, Partitions, effective_policy
from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError
from driver.host import CommandResult
from driver.isolation.base import ShareContext
from driver.isolation.hardware import LOOKED_AT_S, Hardware
from driver.partitions.base import (
    IN_PARTITION_MODE,
    PartitionBusyError,
    PartitionNoRoomError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.partitions.offer import offered
from driver.places import Place, exclude, place_of
from driver.shares import Share
from driver.vendors.ascend import FACTS, Ascend
from driver.vendors.ascend_vnpu import AscendVnpus, Grid, VnpusNotUnderstoodError
from driver.vendors.dcmi import DcmiChip
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.reading import UnreadableError
from kubelet_plugin.partitions.notes import FileNotes
from tests.driver.vendors.fixture_node import read_node
from tests.support.folder_host import FolderHost

UUID = "11111111-22222222-33333333-44444444-0000000A"
NAME = f"ascend-{UUID.lower()}"
GIB = 1 << 30
TOTAL = "| Total number of vnpu: {count:<57}|\n"
HEAD = "|  Vnpu ID  |  Vgroup ID     |  Container ID  |  Status  |  Template Name        |\n"
LINE = "+-------------------------------------------------------------------------------+\n"


class NpuSmi:
    """Stands for npu-smi as its reference describes it, with what it was told to make."""

    def __init__(self) -> None:
        self.there: dict[int, str] = {}
        self.refuses = False
        self.forgets = False

    def __call__(self, argv: Sequence[str]) -> CommandResult:
        words = list(argv[1:])
        options = dict(zip(words[1::2], words[2::2], strict=False))
        if (options["-i"], options["-c"]) != ("3", "0"):
            assert words[0] == "info"
            return CommandResult(returncode=0, stdout=NpuSmi().table(), stderr="")
        if words[0] == "info":
            return CommandResult(returncode=0, stdout=self.table(), stderr="")
        if self.refuses:
            return CommandResult(returncode=1, stdout="", stderr="The vnpu is in use.")
        number = int(options["-v"])
        if options["-t"] == "create-vnpu" and not self.forgets:
            self.there[number] = options["-f"]
        if options["-t"] == "destroy-vnpu":
            del self.there[number]
        return CommandResult(returncode=0, stdout="Status : OK", stderr="")

    def table(self) -> str:
        text = LINE + TOTAL.format(count=len(self.there)) + LINE + HEAD + LINE
        for number, template in sorted(self.there.items()):
            text += f"|  {number:<8} |  0             |  000000000000  |  0       |  {template:<20} |\n"
        return text + LINE


def chip(model: str = "910B3", physical_id: int = 4) -> DcmiChip:
    return DcmiChip(
        card=3,
        device=0,
        physical_id=physical_id,
        pci_address="0000:c1:00.0",
        die_id=UUID,
        name=model,
        ai_cores=20,
        memory_bytes=64 * GIB,
    )


def card(model: str = "Ascend 910B3", memory_gib: int = 64) -> Card:
    return Card(
        name=NAME,
        vendor="ascend",
        model=model,
        memory_bytes=memory_gib * GIB,
        uuid=UUID,
        pci_bus_id="0000:c1:00.0",
    )


@pytest.fixture
def smi() -> NpuSmi:
    return NpuSmi()


@pytest.fixture
def host(tmp_path: Path, smi: NpuSmi) -> FolderHost:
    return FolderHost(tmp_path / "root", programs={"npu-smi": smi})


@pytest.fixture
def vnpus() -> AscendVnpus:
    return AscendVnpus(lambda uuid, _host: chip() if uuid == UUID else None, models=FACTS.legacy)


def target(profile: int, start: int, size: int) -> PartitionTarget:
    place = Place(card=NAME, kind="vnpu", profile=profile, start=start, size=size)
    return PartitionTarget(place=place, card_uuid=UUID)


def test_a_chip_can_be_cut_by_every_template_wherever_it_fits(vnpus: AscendVnpus, host: FolderHost) -> None:
    whole, *parts = vnpus.cards(card(), host=host)
    assert [(part.name.removeprefix(NAME), part.memory_mib, part.cores) for part in parts] == [
        *((f"-vnpu-0-{start}-1", 16384, 25) for start in range(4)),
        *((f"-vnpu-1-{start}-2", 32768, 50) for start in (0, 2)),
    ]
    assert {part.partition.profile for part in parts if part.partition} == {"vir05_1c_16g", "vir10_3c_32g"}
    assert whole.counters == {f"slot-{number}": 1 for number in range(4)}
    assert not whole.unpublished


def test_a_model_without_templates_is_given_out_whole(vnpus: AscendVnpus, host: FolderHost) -> None:
    assert vnpus.cards(card("Ascend 310"), host=host) == (card("Ascend 310"),)


def test_without_npu_smi_nothing_is_known(vnpus: AscendVnpus, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="not installed"):
        vnpus.cards(card(), host=FolderHost(tmp_path / "bare"))


def test_an_instance_is_made_by_its_template_with_the_number_of_its_first_slot(
    vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    made = vnpus.make_instance(target(1, 2, 2), host=host)
    assert smi.there == {100 + 16 * 4 + 2: "vir10_3c_32g"}
    assert made.complete
    assert vnpus.make_instance(target(1, 2, 2), host=host) == made
    assert len(smi.there) == 1
    assert vnpus.find_instance(target(0, 2, 1), host=host) is None
    vnpus.remove_instance(made, host=host)
    vnpus.remove_instance(made, host=host)
    assert smi.there == {}


def test_a_container_gets_the_vnpus_node_as_cann_looks_for_it(vnpus: AscendVnpus, host: FolderHost) -> None:
    made = vnpus.make_instance(target(1, 2, 2), host=host)
    with pytest.raises(DeviceNodesMissingError, match="vdavinci166"):
        vnpus.instance_edits(made, host=host)
    host.add("/dev/vdavinci166")
    (node,) = vnpus.instance_edits(made, host=host).device_nodes
    assert (node.path, node.host_path) == ("/dev/davinci166", "/dev/vdavinci166")


def test_what_is_there_is_told_by_its_number(vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi) -> None:
    smi.there = {164: "vir10_3c_32g", 166: "vir05_1c_16g"}
    whole, *parts = vnpus.cards(card(), host=host)
    there = [part.name for part in parts if part.partition and part.partition.exists]
    assert there == [f"{NAME}-vnpu-0-2-1", f"{NAME}-vnpu-1-0-2"]
    assert whole.unpublished == IN_PARTITION_MODE


@pytest.mark.parametrize(
    "there",
    [
        {164: "vir10_3c_32g", 165: "vir05_1c_16g"},
        {165: "vir10_3c_32g"},
        {163: "vir05_1c_16g"},
        {164: "vir99"},
    ],
    ids=["overlap", "between places", "another chip's number", "unknown template"],
)
def test_numbers_that_do_not_tell_a_place_keep_the_chip_from_everybody(
    vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi, there: dict[int, str]
) -> None:
    smi.there = there
    (whole,) = vnpus.cards(card(), host=host)
    assert "do not tell where they are" in whole.unpublished


def test_a_chip_with_vnpus_is_not_made_whole(vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi) -> None:
    vnpus.make_whole(UUID, host=host)
    smi.there = {164: "vir05_1c_16g"}
    with pytest.raises(PartitionBusyError, match="has 1 vNPUs"):
        vnpus.make_whole(UUID, host=host)


def test_what_npu_smi_refuses_is_tried_again(vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi) -> None:
    made = vnpus.make_instance(target(0, 0, 1), host=host)
    smi.refuses = True
    with pytest.raises(PartitionBusyError, match="in use") as refused:
        vnpus.remove_instance(made, host=host)
    assert refused.value.retriable
    with pytest.raises(PartitionBusyError):
        vnpus.make_instance(target(0, 1, 1), host=host)


def test_a_place_that_others_have_taken_is_refused_by_name_so_that_the_pod_is_told(
    vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    smi.there, smi.refuses = {166: "vir10_3c_32g"}, True
    with pytest.raises(PartitionNoRoomError, match="no room") as refused:
        vnpus.make_instance(target(0, 2, 1), host=host)
    assert not refused.value.retriable
    with pytest.raises(PartitionBusyError, match="refuses create-vnpu"):
        vnpus.make_instance(target(0, 0, 1), host=host)
    assert smi.there == {166: "vir10_3c_32g"}


def test_one_that_was_made_and_is_not_listed_is_refused(
    vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    smi.forgets = True
    with pytest.raises(PartitionRefusedError):
        vnpus.make_instance(target(0, 0, 1), host=host)


@pytest.mark.parametrize("at", [(9, 0, 1), (0, 4, 1), (1, 1, 2), (1, 0, 1)])
def test_a_place_that_the_chip_does_not_have_is_gone(
    vnpus: AscendVnpus, host: FolderHost, at: tuple[int, int, int]
) -> None:
    with pytest.raises(DeviceGoneError, match="no place"):
        vnpus.find_instance(target(*at), host=host)


def test_a_chip_that_is_gone_is_told(vnpus: AscendVnpus, host: FolderHost) -> None:
    gone = PartitionTarget(place=target(0, 0, 1).place, card_uuid="another")
    with pytest.raises(DeviceGoneError, match="not on this node"):
        vnpus.find_instance(gone, host=host)


def test_a_310p_has_fewer_ai_cpus_than_two_of_its_largest_templates_need(
    vnpus: AscendVnpus, host: FolderHost
) -> None:
    whole, *parts = vnpus.cards(card("Ascend 310P3", 24), host=host)
    halves = [part for part in parts if part.name.endswith("-4")]
    assert len(halves) == 2
    assert sum(part.counters["ai-cpus"] for part in halves) > whole.counters["ai-cpus"]


MODELS = [known for known in FACTS.legacy if known.templates and known.group == 1]


@pytest.mark.parametrize("known", MODELS, ids=lambda known: known.type_name)
@given(data=st.data())
def test_whatever_fits_in_ai_cores_fits_in_slots(known: object, data: st.DataObject) -> None:
    grid = Grid.of(known.templates, ai_cpus=0)  # type: ignore[attr-defined]
    chip_card = card()
    parts = sorted(grid.parts(chip_card), key=lambda part: -part.cores)
    asked = data.draw(st.lists(st.integers(0, len(grid.sizes) - 1), max_size=8))
    taken: list[str] = []
    room = grid.slots
    for profile in sorted(asked, key=lambda one: -grid.sizes[one][1]):
        room -= grid.sizes[profile][1]
        free = [
            part.name
            for part in parts
            if (place := place_of(part.name)) is not None
            and place.profile == profile
            and part.name not in taken
            and not any(exclude(part.name, other) for other in taken)
        ]
        assert bool(free) == (room >= 0)
        if not free:
            break
        taken.append(free[0])


def test_every_name_of_a_place_is_a_device_name(vnpus: AscendVnpus) -> None:
    for known in MODELS:
        for part in Grid.of(known.templates, ai_cpus=0).parts(card()):
            assert len(part.name) <= 63
            assert place_of(part.name) is not None


class SmiNode:
    """A chip behind the method `hardware`."""

    def __init__(self, tmp_path: Path, vnpus: AscendVnpus, host: FolderHost) -> None:
        self.host = host
        self.host.add("/dev/vdavinci166")
        self.boot = tmp_path / "boot"
        self.boot.write_text("first")
        self.vnpus = vnpus
        self.notes = FileNotes(tmp_path / "notes", boot_id=self.boot)
        self.now = 0.0
        self.hardware = Hardware(lambda _card, _vendor: vnpus, notes=self.notes, clock=lambda: self.now)
        self.half = next(part for part in vnpus.cards(card(), host=host) if part.name.endswith("-vnpu-1-2-2"))
        self.share = Share(
            claim_uid="c", request="r", device=self.half.name, memory_mib=self.half.memory_mib, whole=True
        )

    def prepare(self) -> ContainerEdits:
        context = ShareContext(
            card=self.half,
            index=0,
            core_policy="force",
            claim_uid="c",
            holds_memory=True,
            holds_cores=True,
        )
        return self.hardware.edits(self.share, context=context, host=self.host)

    def unprepare(self) -> None:
        self.hardware.undo(self.share, context=None, host=self.host)


def test_a_vnpu_that_the_driver_made_anew_after_a_boot_is_still_the_claims(
    tmp_path: Path, vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    node = SmiNode(tmp_path, vnpus, host)
    node.prepare()
    node.boot.write_text("second")
    node.prepare()
    assert len(smi.there) == 1
    node.unprepare()
    assert smi.there == {}


def test_a_vnpu_that_was_lost_is_missed_and_made_anew(
    tmp_path: Path, vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    node = SmiNode(tmp_path, vnpus, host)
    given = node.prepare()
    smi.there.clear()
    node.now += LOOKED_AT_S
    assert not node.hardware.stands(node.half, given, host=host)
    assert node.prepare() == given
    assert smi.there == {166: "vir10_3c_32g"}
    assert node.hardware.stands(node.half, given, host=host)


def test_npu_smi_is_asked_only_now_and_then_whether_a_vnpu_is_there(
    tmp_path: Path, vnpus: AscendVnpus, host: FolderHost
) -> None:
    node = SmiNode(tmp_path, vnpus, host)
    given = node.prepare()
    asked = len(host.ran)
    for seconds in (0.0, LOOKED_AT_S - 1, 1.0, LOOKED_AT_S - 1):
        node.now += seconds
        assert node.hardware.stands(node.half, given, host=host)
    assert len(host.ran) == asked + 1
    node.unprepare()
    assert not node.hardware.stands(node.half, given, host=host)


def test_a_vnpu_that_somebody_else_made_is_used_and_left(
    tmp_path: Path, vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi
) -> None:
    node = SmiNode(tmp_path, vnpus, host)
    smi.there = {166: "vir10_3c_32g"}
    node.prepare()
    node.unprepare()
    assert smi.there == {166: "vir10_3c_32g"}


@pytest.fixture
def node(tmp_path: Path, smi: NpuSmi, monkeypatch: pytest.MonkeyPatch) -> tuple[Ascend, FolderHost]:
    """The fixture's node; its second chip is number 3, and /dev/davinci7."""
    monkeypatch.setenv("MOCK_DCMI_FILE", "")
    found = read_node("ascend")
    host = found.host(tmp_path / "node")
    host.programs["npu-smi"] = smi
    vendor = found.vendor(host)
    assert isinstance(vendor, Ascend)
    return vendor, host


def test_chips_and_their_vnpus_are_found_on_a_node(node: tuple[Ascend, FolderHost], smi: NpuSmi) -> None:
    vendor, host = node
    smi.there = {100 + 16 * 7: "vir05_1c_16g"}
    cards = vendor.discover(host).cards
    assert len(cards) == 2 * (1 + 4 + 2)
    there = [card for card in cards if card.partition and card.partition.exists]
    assert [card.partition.profile for card in there if card.partition] == ["vir05_1c_16g"]
    del host.programs["npu-smi"]
    assert vendor.discover(host).cards == cards


def test_a_vnpus_container_has_no_node_of_the_chip(node: tuple[Ascend, FolderHost]) -> None:
    vendor, host = node
    chip_card, *parts = (card for card in vendor.discover(host).cards if card.pci_bus_id == "0000:82:00.0")
    assert "/dev/davinci7" in [one.path for one in vendor.edits(chip_card, host=host).device_nodes]
    paths = [one.path for one in vendor.edits(parts[0], host=host).device_nodes]
    assert paths == ["/dev/davinci_manager", "/dev/hisi_hdc", "/dev/devmm_svm"]
    assert {one.health for one in vendor.health([chip_card, *parts], host=host)} == {"Healthy"}


class Garbled(NpuSmi):
    """Counts all vNPUs and lists some of them in words that nobody knows."""

    def __init__(self, *, lost: int = 1, times: int = 1000, total: str = "") -> None:
        super().__init__()
        self.lost, self.times, self.total = lost, times, total
        self.asked_to_change: list[str] = []

    def __call__(self, argv: Sequence[str]) -> CommandResult:
        if argv[1] == "set":
            self.asked_to_change.append(argv[3])
        return super().__call__(argv)

    def table(self) -> str:
        text = super().table()
        if self.times <= 0 or not self.there:
            return text
        self.times -= 1
        kept = sorted(self.there)[: len(self.there) - self.lost]
        lines = [line for line in text.splitlines() if not _is_row(line) or int(line.split()[1]) in kept]
        if self.total:
            lines = [self.total if "Total number" in line else line for line in lines]
        return "\n".join(lines)


def _is_row(line: str) -> bool:
    return line.startswith("|") and line.split()[1].isdecimal()


@pytest.fixture
def garbled(host: FolderHost) -> Garbled:
    found = Garbled()
    found.there = {164: "vir05_1c_16g", 166: "vir10_3c_32g"}
    host.programs["npu-smi"] = found
    return found


@pytest.mark.parametrize("lost", [1, 2])
def test_a_count_that_the_rows_do_not_bear_out_is_never_taken_for_a_chip_without_vnpus(
    vnpus: AscendVnpus, host: FolderHost, garbled: Garbled, lost: int
) -> None:
    garbled.lost = lost
    with pytest.raises(VnpusNotUnderstoodError) as odd:
        vnpus.cards(card(), host=host)
    assert odd.value.reason == "VnpusNotUnderstood"
    assert "counts 2 vNPUs" in odd.value.message
    with pytest.raises(PartitionBusyError, match="counts 2"):
        vnpus.make_whole(UUID, host=host)


def test_on_a_chip_that_is_cut_in_ways_nobody_can_read_nothing_is_made_or_removed(
    vnpus: AscendVnpus, host: FolderHost, smi: NpuSmi, garbled: Garbled
) -> None:
    host.programs["npu-smi"] = smi
    made = vnpus.make_instance(target(0, 0, 1), host=host)
    host.programs["npu-smi"] = garbled
    verbs: tuple[Callable[[], object], ...] = (
        lambda: vnpus.find_instance(target(0, 1, 1), host=host),
        lambda: vnpus.make_instance(target(0, 1, 1), host=host),
        lambda: vnpus.remove_instance(made, host=host),
    )
    for verb in verbs:
        with pytest.raises(PartitionBusyError) as refused:
            verb()
        assert refused.value.retriable
    assert garbled.asked_to_change == []


def test_rows_without_a_count_two_counts_and_a_number_that_is_listed_twice_are_not_understood(
    vnpus: AscendVnpus, host: FolderHost, garbled: Garbled
) -> None:
    garbled.lost = 0
    for total in ("| no count |", "| Total number of vnpu: 2 |\n| Total number of vnpu: 2 |"):
        garbled.total = total
        with pytest.raises(VnpusNotUnderstoodError):
            vnpus.cards(card(), host=host)
    row = "|  164  |  0  |  000000000000  |  0  |  vir05_1c_16g  |\n"
    text = TOTAL.format(count=2) + row + row
    host.programs["npu-smi"] = lambda _argv: CommandResult(returncode=0, stdout=text, stderr="")
    with pytest.raises(VnpusNotUnderstoodError):
        vnpus.cards(card(), host=host)


def test_a_vnpu_that_goes_while_npu_smi_lists_them_is_asked_for_again(
    vnpus: AscendVnpus, host: FolderHost, garbled: Garbled
) -> None:
    garbled.times = 1
    _, *parts = vnpus.cards(card(), host=host)
    assert sum(part.partition.exists for part in parts if part.partition) == 2


def test_an_answer_without_a_table_tells_nothing_though_npu_smi_ends_well(
    vnpus: AscendVnpus, host: FolderHost
) -> None:
    said = "NPU is working in SMP mode, does not support vnpu query.\n"
    host.programs["npu-smi"] = lambda _argv: CommandResult(returncode=0, stdout=said, stderr="")
    with pytest.raises(UnreadableError, match="SMP mode") as unknown:
        vnpus.cards(card(), host=host)
    assert not isinstance(unknown.value, VnpusNotUnderstoodError)


@pytest.mark.parametrize("known_before", [False, True])
def test_nothing_of_a_chip_that_is_cut_in_ways_nobody_can_read_is_offered(
    node: tuple[Ascend, FolderHost], smi: NpuSmi, *, known_before: bool
) -> None:
    vendor, host = node
    smi.there = {100 + 16 * 7: "vir05_1c_16g"}
    before = vendor.discover(host).cards if known_before else ()
    garbled = Garbled()
    garbled.there = smi.there
    host.programs["npu-smi"] = garbled
    found = vendor.discover(host)
    cut = [one for one in found.cards if "counts 1 vNPUs" in one.unpublished]
    assert {one.pci_bus_id for one in cut} == {"0000:82:00.0"}
    assert len(cut) == (1 + 4 + 2 if known_before else 1)
    assert [one for one in found.cards if one.pci_bus_id == "0000:82:00.0"] == cut
    assert any("counts 1 vNPUs" in problem for problem in found.problems)
    spec = AcceleratorPolicySpec(partitions=Partitions.DYNAMIC)
    policy = effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})
    assert all(one.unpublished for one in offered(cut, policy=policy))
    host.programs["npu-smi"] = smi
    if known_before:
        assert vendor.discover(host).cards == before
