from __future__ import annotations

import json
from pathlib import Path

import pytest

from driver.allocation.why_not import CARD_REASONS
from driver.cards import Card, Partition
from driver.cel.device import DeviceView
from driver.cel.selector import compile_selector
from driver.errors import OverCommitError, OverCommitReleasingError
from driver.slices import publication_of
from driver.vendors import catalogue
from tests.driver.vendors.tried import Feature
from tooling.generate import __main__ as command
from tooling.generate import vendor_containers, vendors_page
from tooling.generate.device_classes import VENDORS, device_classes
from tooling.generate.docs import attributes_page, import_all, reasons_page


def test_there_is_a_class_for_any_accelerator_one_for_partitions_and_one_for_each_vendor() -> None:
    names = [one["metadata"]["name"] for one in device_classes(["b", "a"])]
    assert names == [
        "accelerator.dragoman.dev",
        "partition.dragoman.dev",
        "a.dragoman.dev",
        "b.dragoman.dev",
    ]


def test_a_partition_is_in_the_class_for_partitions_and_in_no_other() -> None:
    card = Card(name="nvidia-1", vendor="nvidia", model="A100", memory_bytes=40 << 30)
    part = Card(
        name="nvidia-1-mig-19-0-1",
        vendor="nvidia",
        model="A100",
        memory_bytes=5 << 30,
        partition=Partition(card_uuid="GPU-1", profile="1g.5gb"),
    )
    (one,) = publication_of([card, part], node="n").slices
    found = {
        device["name"]: [
            document["metadata"]["name"].partition(".")[0]
            for document in device_classes(["amd", "nvidia"])
            if compile_selector(document["spec"]["selectors"][0]["cel"]["expression"]).evaluate(
                DeviceView.build(device, driver="dragoman.dev")
            )
        ]
        for device in one["spec"]["devices"]
    }
    assert found == {card.name: ["accelerator", "nvidia"], part.name: ["partition"]}


def test_every_vendor_of_the_registry_has_a_class_and_a_row() -> None:
    classes = {one["metadata"]["name"] for one in device_classes(VENDORS)}
    page = vendors_page.page()
    for facts in catalogue.VENDORS:
        assert facts.device_class in classes
        assert f"| {facts.title} | `{facts.device_class}` |" in page


def test_the_matrix_has_a_cell_for_every_vendor_and_feature_as_it_was_recorded() -> None:
    recorded = json.loads(vendors_page.TRIED.read_text())
    lines = vendors_page.matrix(catalogue.VENDORS)
    (heading, _, *rows) = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert heading == ["vendor", *(feature.value for feature in Feature)]
    assert rows == [
        [facts.title, *(recorded[facts.name][feature.value] for feature in Feature)]
        for facts in catalogue.VENDORS
    ]


def test_every_vendor_was_tried_on_a_real_node() -> None:
    recorded = json.loads(vendor_containers.RECORDED.read_text())["vendors"]
    assert sorted(recorded) == sorted(facts.name for facts in catalogue.VENDORS)
    lines = vendor_containers.section(catalogue.VENDORS)
    for facts in catalogue.VENDORS:
        (row,) = (line for line in lines if line.startswith(f"| {facts.title} |"))
        assert all(f"`{path}`" in row for path in recorded[facts.name]["share"]["devices"])


def test_every_vendor_with_partitions_has_a_row_of_what_a_container_had_of_one() -> None:
    recorded = json.loads(vendor_containers.PARTITIONS.read_text())
    tried = json.loads(vendors_page.TRIED.read_text())
    assert sorted(recorded) == sorted(name for name, row in tried.items() if row["partitions"] != "none")
    lines = vendor_containers.partitions(catalogue.VENDORS)
    for facts in catalogue.VENDORS:
        rows = [line for line in lines if line.startswith(f"| {facts.title} |")]
        assert len(rows) == (facts.name in recorded)
        assert all(f"`{path}`" in row for row in rows for path in recorded[facts.name]["had"]["devices"])


def test_what_is_guessed_and_every_legacy_name_is_on_the_vendors_page() -> None:
    page = vendors_page.page()
    for facts in catalogue.VENDORS:
        for sentence in (*facts.sources, *facts.guessed):
            assert f"- {sentence}\n" in page
        for entry in facts.legacy:
            assert all(f"`{name}`" in page for name in entry.names)


def test_every_class_is_marked_as_ours_for_the_admission_policy() -> None:
    labels = [one["metadata"]["labels"].get("dragoman.dev/driver") for one in device_classes(VENDORS)]
    assert set(labels) == {"true"}


def test_a_vendors_class_picks_that_vendors_cards_of_this_driver_only() -> None:
    (*_, one) = device_classes(["amd"])
    (selector,) = one["spec"]["selectors"]
    assert selector["cel"]["expression"] == (
        'device.driver == "dragoman.dev" && !has(device.attributes["dragoman.dev"].profile) && '
        'device.attributes["dragoman.dev"].vendor == "amd"'
    )


def test_every_reason_is_an_anchor_and_says_whether_waiting_helps() -> None:
    rows = {line.split("`")[1]: line for line in reasons_page().splitlines() if line.startswith("| <a id=")}
    assert '<a id="overcommit"></a>' in rows[OverCommitError.reason]
    assert rows[OverCommitError.reason].endswith("| no |")
    assert rows[OverCommitReleasingError.reason].endswith("| yes |")


def test_every_reason_against_a_card_is_an_anchor_of_its_own() -> None:
    page = reasons_page()
    assert all(page.count(f'<a id="card-{reason.lower()}"></a>`{reason}`') == 1 for reason in CARD_REASONS)


def test_reasons_are_looked_for_in_every_module_of_the_three_packages() -> None:
    names = import_all()
    assert {name.partition(".")[0] for name in names} == {"controller", "driver", "kubelet_plugin"}
    assert "driver.isolation.rules" in names


def test_the_attributes_page_shows_what_a_published_card_really_has() -> None:
    page = attributes_page()
    for asked in (
        'device.attributes["dragoman.dev"].vendor',
        'device.attributes["dragoman.dev"].memoryIsolation',
        'device.attributes["resource.kubernetes.io"].pciBusID',
        'device.attributes["resource.kubernetes.io"].numaNode',
    ):
        (row,) = [line for line in page.splitlines() if f"`{asked}`" in line]
        assert row.rstrip(" |").rpartition("|")[2].strip(), f"{asked} has no meaning in the table"


def test_a_file_that_is_as_its_source_says_does_not_differ(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    assert command.differing({"a.txt": "one\n"}, root=tmp_path) == {}


@pytest.mark.parametrize("present", ["two\n", None])
def test_a_file_that_differs_or_is_missing_is_shown_with_its_difference(
    tmp_path: Path, present: str | None
) -> None:
    if present is not None:
        (tmp_path / "a.txt").write_text(present)
    found = command.differing({"a.txt": "one\n"}, root=tmp_path)
    assert "+one" in found["a.txt"]


def test_check_writes_nothing_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "generated", lambda: {"x/a.txt": "new\n"})
    monkeypatch.setattr(command, "differing", lambda wanted: {path: ["+new"] for path in wanted})
    monkeypatch.setattr(command.protos, "generate", lambda *, check: ["b_pb2.py"] if check else [])
    assert command.main(["--check"]) == 1
    assert not (tmp_path / "x").exists()
    said = capsys.readouterr().out
    assert "differs: x/a.txt" in said
    assert "differs: b_pb2.py" in said
    assert command.main([]) == 0
    assert (tmp_path / "x/a.txt").read_text() == "new\n"
