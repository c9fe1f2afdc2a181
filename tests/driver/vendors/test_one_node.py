"""All vendors' cards in one node: each vendor finds its own, and no fixture stands in another's way."""

from __future__ import annotations

from collections import Counter

import pytest

from driver.vendors.registry import NodeVendors
from tests.driver.vendors.fixture_node import NODES, read_node
from tests.support.folder_host import FolderHost

FIXTURES = {path.stem: read_node(path.stem) for path in sorted(NODES.glob("*.yaml"))}
WITHOUT_LIBRARY = sorted(name for name, node in FIXTURES.items() if not node.library)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> FolderHost:
    """One node with the fixtures of all vendors that need no library."""
    root = tmp_path_factory.mktemp("node")
    made = FolderHost(root / "all")
    for name in WITHOUT_LIBRARY:
        node = FIXTURES[name]
        for path, text in node.files.items():
            made.add(path, text)
        for path, target in node.links.items():
            made.link(path, target)
        for path in node.devices:
            made.add(path)
        made.programs.update(node.host(root / name).programs)
    return made


@pytest.mark.parametrize("name", WITHOUT_LIBRARY)
def test_a_vendor_finds_its_own_cards_beside_all_others(host: FolderHost, name: str) -> None:
    (vendor,) = (one for one in NodeVendors(driver_root="/", host=host)() if one.name == name)
    found = vendor.discover(host)
    assert [card.name for card in found.cards] == [one["name"] for one in FIXTURES[name].expect]
    assert found.problems == ()
    for card, expected in zip(found.cards, FIXTURES[name].expect, strict=True):
        nodes = {one.path for one in vendor.edits(card, host=host).device_nodes}
        assert nodes == {*expected["own"], *expected["shared"]}


def test_no_two_cards_of_the_fixtures_have_the_same_address_name_or_device_node() -> None:
    cards = [card for node in FIXTURES.values() for card in node.expect]
    for what in ("pci", "name"):
        assert [text for text, often in Counter(card[what] for card in cards).items() if often > 1] == []
    own = Counter(path for card in cards for path in card["own"])
    assert [path for path, often in own.items() if often > 1] == []
