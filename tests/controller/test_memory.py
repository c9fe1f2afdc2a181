"""What there is when the caches are filled is not collected again and again."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from controller.memory import settle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_there_is_is_left_alone_from_now_on() -> None:
    before = gc.get_freeze_count()
    settle()
    assert gc.get_freeze_count() > before
    assert gc.get_threshold()[0] == 20_000


def test_garbage_is_collected_before() -> None:
    class Node:
        me: "Node"

    one = Node()
    one.me = one
    seen = weakref.ref(one)
    del one
    settle()
    assert seen() is None
