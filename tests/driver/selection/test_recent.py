"""What was used last is kept, and no more than there is room for."""

from __future__ import annotations

from driver.selection.recent import Recent


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    recent: Recent[str, int] = Recent(count=2, weight=100)
    recent.keep("a", 1, weight=1)
    recent.keep("b", 2, weight=1)
    assert recent.find("a") == 1
    recent.keep("c", 3, weight=1)
    assert [recent.find(key) for key in "abc"] == [1, None, 3]


def test_what_weighs_much_makes_others_go() -> None:
    recent: Recent[str, int] = Recent(count=10, weight=100)
    for place, key in enumerate("abcd"):
        recent.keep(key, place, weight=30)
    assert [recent.find(key) for key in "abcd"] == [None, 1, 2, 3]
    recent.keep("e", 4, weight=1_000)
    assert [recent.find(key) for key in "bcde"] == [None, None, None, 4]
    recent.keep("f", 5, weight=1)
    assert len(recent) == 1
