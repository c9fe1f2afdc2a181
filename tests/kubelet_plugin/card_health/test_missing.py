from __future__ import annotations

from collections.abc import Sequence

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.vendors.base import CardHealth, Discovery
from kubelet_plugin.card_health.missing import KEPT_FOR_S, Found, MissingCards
from tests.support.node_world import card


class Lists:
    name = "nvidia"

    def discover(self, host: Host) -> Discovery:
        return Discovery(cards=())

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        return ContainerEdits()

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        return ()


def listed(*names: str, final: bool = False) -> dict[str, Found]:
    vendor = Lists()
    return {name: Found(card(name), vendor, final) for name in names}


def test_nothing_is_missing_that_was_never_there() -> None:
    assert MissingCards().update({}, now=0) == {}


def test_a_card_that_is_not_listed_any_more_is_missing_until_it_is_let_go() -> None:
    cards = MissingCards()
    cards.update(listed("a", "b"), now=0)
    assert set(cards.update(listed("a"), now=60)) == {"b"}
    assert set(cards.update(listed("a"), now=KEPT_FOR_S - 1)) == {"b"}
    assert cards.update(listed("a"), now=KEPT_FOR_S) == {}
    assert cards.update(listed("a"), now=KEPT_FOR_S + 60) == {}


def test_a_card_that_comes_back_is_not_missing_and_is_waited_for_anew() -> None:
    cards = MissingCards()
    cards.update(listed("a"), now=0)
    cards.update({}, now=60)
    assert cards.update(listed("a"), now=800) == {}
    assert set(cards.update({}, now=1600)) == {"a"}


def test_a_card_that_was_taken_away_on_purpose_is_not_missing() -> None:
    cards = MissingCards()
    cards.update(listed("a", "b", final=True), now=0)
    assert cards.update(listed("a", final=True), now=1) == {}
    assert cards.update({}, now=1) == {}
