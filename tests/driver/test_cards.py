from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import Card, IsolationLevel, at_least, device_name, pool_name
from driver.errors import InvalidInputError

UUID = "GPU-6ca02a4c-84e9-4b5b-9d3b-0d3ae4c1d9a4"


def test_a_card_is_named_by_its_uuid_without_nvidias_prefix() -> None:
    assert device_name(vendor="nvidia", uuid=UUID) == "nvidia-6ca02a4c-84e9-4b5b-9d3b-0d3ae4c1d9a4"


def test_a_card_without_a_uuid_is_named_by_its_pci_address() -> None:
    assert device_name(vendor="biren", uuid="", pci_bus_id="0000:3B:00.0") == "pci-0000-3b-00-0"


def test_a_card_with_both_keeps_the_name_of_its_uuid() -> None:
    assert device_name(vendor="amd", uuid="abc", pci_bus_id="0000:3b:00.0") == "amd-abc"


def test_a_card_without_any_identity_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="neither a UUID nor a PCI address"):
        device_name(vendor="amd", uuid="")


def test_a_uuid_that_does_not_fit_into_a_name_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidInputError) as refused:
        device_name(vendor="ascend", uuid="A" * 80)
    assert refused.value.field == "uuid"


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=1, max_size=50))
def test_every_name_that_is_made_is_a_dns_label(uuid: str) -> None:
    try:
        name = device_name(vendor="nvidia", uuid=uuid)
    except InvalidInputError:
        return
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 63


@pytest.mark.parametrize("memory", [0, -1, (1 << 20) + 1])
def test_a_card_has_whole_mebibytes_above_zero(memory: int) -> None:
    with pytest.raises(InvalidInputError, match="whole MiB"):
        Card(name="a", vendor="nvidia", model="m", memory_bytes=memory)


def test_a_card_has_the_memory_that_it_gives_out_if_nothing_else_is_said() -> None:
    card = Card(name="a", vendor="v", model="m", memory_bytes=10 << 20)
    assert card.physical_memory_mib == 10
    assert replace(card, physical_memory_bytes=12 << 20).physical_memory_mib == 12


@pytest.mark.parametrize("physical", [9 << 20, (10 << 20) + 1, -1])
def test_a_card_has_no_less_memory_than_it_gives_out(physical: int) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Card(name="a", vendor="v", model="m", memory_bytes=10 << 20, physical_memory_bytes=physical)
    assert refused.value.field == "physicalMemoryBytes"


def test_the_pool_is_not_named_like_the_node_alone() -> None:
    assert pool_name("node-1") == "node-1/dragoman"


@pytest.mark.parametrize(
    ("level", "minimum", "enough"),
    [
        (IsolationLevel.HARDWARE, IsolationLevel.PRELOAD, True),
        (IsolationLevel.PRELOAD, IsolationLevel.PRELOAD, True),
        (IsolationLevel.NONE, IsolationLevel.PRELOAD, False),
        (IsolationLevel.PRELOAD, IsolationLevel.KERNEL, False),
    ],
)
def test_levels_are_ordered_from_hardware_to_none(
    level: IsolationLevel, minimum: IsolationLevel, enough: bool
) -> None:
    assert at_least(level, minimum) is enough
