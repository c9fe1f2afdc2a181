"""One index of all cards for all who ask: validation and quotas see the same cards, each in its own way."""

from __future__ import annotations

from dataclasses import replace

from driver.cards import Card, Partition
from driver.cel import compile_selector
from driver.fleet import Fleet, Group
from driver.quota.stock import Stock
from driver.validation.cards import KnownCards

SMALL = Card(name="v-small", vendor="v", model="S", memory_bytes=8 << 30, uuid="u-small")
LARGE = Card(name="v-large", vendor="v", model="L", memory_bytes=80 << 30, uuid="u-large")
AWAY = replace(LARGE, unpublished="It is somebody else's.")
IS_LARGE = compile_selector('device.attributes["dragoman.dev"].model == "L"')
UNITS = 50_000


class Noted:
    """What a follower is told."""

    def __init__(self, fleet: Fleet) -> None:
        self.came_: list[Group] = []
        self.went_: list[str] = []
        fleet.follow(self)

    def came(self, group: Group) -> None:
        self.came_.append(group)

    def went(self, key: str) -> None:
        self.went_.append(key)


def stock_of(fleet: Fleet) -> Stock:
    made = Stock(class_is_ours=lambda _one: True, fleet=fleet)
    made.put_class({"metadata": {"name": "c"}, "spec": {}})
    return made


def models(stock: Stock) -> set[str]:
    return {kind.model for kind in stock.choice("c", ()).kinds}


def test_what_is_put_once_is_known_to_all_who_follow() -> None:
    fleet = Fleet()
    known, stock = KnownCards(fleet), stock_of(fleet)
    fleet.put("n1", [SMALL, LARGE])
    assert known.every.bit_count() == 2
    assert known.select(IS_LARGE).true.bit_count() == 1
    assert models(stock) == {"s", "l"}
    fleet.remove("n1")
    assert known.every == 0
    assert models(stock) == set()


def test_a_card_that_is_not_offered_counts_for_validation_and_not_for_quotas() -> None:
    fleet = Fleet()
    known, stock = KnownCards(fleet), stock_of(fleet)
    fleet.put("n1", [SMALL, AWAY])
    assert known.uuids.keys() == {"u-small", "u-large"}
    assert models(stock) == {"s"}
    fleet.put("n1", [SMALL, LARGE])
    assert models(stock) == {"s", "l"}


def test_nobody_is_told_of_cards_that_stayed_as_they_were() -> None:
    fleet = Fleet()
    noted = Noted(fleet)
    fleet.put("n1", [SMALL])
    fleet.put("n1", [replace(SMALL)])
    assert [one.key for one in noted.came_] == ["n1"]
    assert noted.went_ == []
    fleet.put("n1", [SMALL, LARGE])
    assert noted.went_ == ["n1"]
    assert [[one.id.device for one in group.devices] for group in noted.came_] == [
        ["v-small"],
        ["v-small", "v-large"],
    ]


def test_numbers_of_what_went_are_given_to_others_and_nothing_of_it_stays_hidden() -> None:
    fleet = Fleet()
    fleet.put("n1", [AWAY])
    assert fleet.offered == 0
    fleet.remove("n1")
    fleet.put("n2", [LARGE])
    assert fleet.offered == fleet.every != 0


def test_a_device_that_cannot_be_read_hides_no_other() -> None:
    fleet = Fleet()
    fleet.put_devices("s", [{"name": 3}, {"name": "fine"}])
    assert fleet.every.bit_count() == 1


def test_a_selector_that_may_cost_less_is_answered_when_it_may_cost_more() -> None:
    fleet = Fleet()
    fleet.put("n1", [SMALL, LARGE])
    text = "[1, 2, 3, 4, 5, 6].all(one, one < 10 + size(device.attributes))"
    costly = compile_selector(text)
    assert fleet.select(costly, units=1).exhausted
    found = fleet.select(costly, units=UNITS)
    assert not found.exhausted
    assert found.true == fleet.every
    # What is known is told, however little it may cost.
    assert fleet.select(costly, units=1) == found


def test_the_parts_of_a_card_that_is_partitioned_on_demand_are_known() -> None:
    fleet = Fleet()
    known = KnownCards(fleet)
    part = Card(
        name="v-large-mig-1-0-1",
        vendor="v",
        model="L",
        memory_bytes=8 << 30,
        shareable=False,
        partition=Partition(card_uuid="u-large", profile="1g.8gb"),
        counters={"slot-0": 1},
    )
    fleet.put("n1", [replace(LARGE, counters={"slot-0": 1, "slot-1": 1}), part])
    assert known.every.bit_count() == 2
    assert (
        known.select(compile_selector('has(device.attributes["dragoman.dev"].profile)')).true.bit_count() == 1
    )
