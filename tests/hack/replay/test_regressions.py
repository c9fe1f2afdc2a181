"""Cases that new random ones once found: Kubernetes' own answers, and ours ever since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tooling.replay import allocations
from tooling.replay.check import AllocationCheck
from tooling.replay.lines import Line, read
from tooling.replay.selectors import Selectors

FOLDER = Path(__file__).parents[2] / "corpora" / "regressions"
RELEASES = ("1.36", "1.37")


def lines(name: str) -> Iterator[Line]:
    with (FOLDER / f"{name}.jsonl").open("rb") as stream:
        yield from read(stream)


def for_release(line: Line, release: str) -> bool:
    return line.value.get("kubernetes", release) == release


@pytest.mark.parametrize("release", RELEASES)
def test_selectors_that_were_once_answered_otherwise_are_answered_as_kubernetes_does(release: str) -> None:
    selectors = Selectors(release)
    wrong = []
    for line in lines("cel"):
        if for_release(line, release):
            ours = selectors.answer(line)
            if ours != line.value.get("outcome"):
                wrong.append((line.number, line.value["expression"], ours))
    assert not wrong


@pytest.mark.parametrize("release", RELEASES)
def test_allocations_that_were_once_answered_otherwise_are_answered_as_kubernetes_does(release: str) -> None:
    check = AllocationCheck(release)
    wrong = []
    for line in lines("allocator"):
        if for_release(line, release):
            wrong += check.add(line, allocations.answer(allocations.inputs(line), release=release))
    assert not wrong
