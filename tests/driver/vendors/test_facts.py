from __future__ import annotations

import subprocess
import sys

import pytest

from driver.errors import InvalidInputError
from driver.quantities import MIB
from driver.vendors.catalogue import VENDORS
from driver.vendors.legacy import LegacyNames, LegacyTemplate
from driver.vendors.registry import ENTRIES, make_vendor

NAMES = [(facts, entry) for facts in VENDORS for entry in facts.legacy]


@pytest.mark.parametrize("facts", VENDORS, ids=lambda facts: facts.name)
def test_every_vendor_says_where_it_was_read(facts: object) -> None:
    found = next(one for one in VENDORS if one is facts)
    assert found.sources
    assert all(sentence.endswith(".") for sentence in (*found.sources, *found.guessed))


def test_no_two_vendors_claim_one_pci_id() -> None:
    claimed = [number for facts in VENDORS for number in facts.pci_vendors]
    assert len(claimed) == len(set(claimed))


def test_a_legacy_name_means_one_thing() -> None:
    counts = [(entry.count, entry.models) for _, entry in NAMES]
    assert len(counts) == len(set(counts))
    sizes = [name for _, entry in NAMES for name in entry.names if name != entry.count]
    assert len(sizes) == len(set(sizes))


def test_legacy_names_are_qualified_as_extended_resources_are() -> None:
    for _, entry in NAMES:
        for name in entry.names:
            domain, slash, resource = name.partition("/")
            assert (bool(domain), slash, bool(resource), name.count("/")) == (True, "/", True, 1)


def test_whole_cards_have_no_sizes() -> None:
    for _, entry in NAMES:
        sized = bool(entry.memory or entry.memory_percent or entry.cores or entry.templates)
        assert not (entry.whole and sized)
        assert not (entry.parts > 1 and (entry.whole or sized))


def test_every_vendor_has_names_of_before() -> None:
    assert [facts.name for facts in VENDORS if not facts.legacy] == []


def test_templates_say_how_much_of_the_card_they_are() -> None:
    assert LegacyTemplate(memory_mib=1, name="a", cores=3, cores_of=24).cores_percent == 12
    assert LegacyTemplate(memory_mib=1, name="a", cores=1, cores_of=300).cores_percent == 1
    for _, entry in NAMES:
        assert all(0 < one.cores_percent <= 100 for one in entry.templates)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_unit": 1},
        {"memory_unit": 0},
        {"cores_of": 0},
        {"parts": 0},
        {"group": 0},
        {"memory_steps_mib": (2, 1)},
        {"memory_steps_mib": (1, 1)},
        {
            "templates": (
                LegacyTemplate(memory_mib=2, name="a", cores=1, cores_of=2),
                LegacyTemplate(memory_mib=1, name="b", cores=1, cores_of=2),
            )
        },
    ],
)
def test_a_table_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        LegacyNames(count="a/b", source="nowhere", **changes)  # type: ignore[arg-type]


def test_units_are_bytes() -> None:
    units = {entry.memory: entry.memory_unit for _, entry in NAMES if entry.memory}
    assert units["nvidia.com/gpumem"] == MIB
    assert units["cambricon.com/mlu.smlu.vmemory"] == 256 * MIB
    assert units["metax-tech.com/vmemory"] == 1024 * MIB


def test_the_registry_says_of_each_vendor_what_its_file_says() -> None:
    of_files = [(facts.name, facts.pci_vendors) for facts in VENDORS if facts.name != "nvidia"]
    assert [(entry.module, entry.pci_vendors) for entry in ENTRIES] == of_files
    assert [make_vendor(entry).name for entry in ENTRIES] == [name for name, _ in of_files]
    assert all(bool(entry.pci_vendors) is not bool(entry.folder) for entry in ENTRIES)


def test_an_agent_loads_no_vendors_file_without_its_hardware() -> None:
    code = (
        "import sys; before = set(sys.modules); import driver.vendors.registry as r; "
        "from driver.vendors import base; "
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('driver.vendors.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = ("base", "pci", "reading", "registry")
    assert done.stdout.split() == [f"driver.vendors.{name}" for name in ours]


def test_vendors_files_need_nothing_but_the_standard_library_and_the_driver() -> None:
    code = (
        "import sys; before = set(sys.modules); import driver.vendors.catalogue; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names - {'driver'}), 'driver.vendors.nvidia' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
