"""What Kubernetes' own code said: `recorded/` holds data, made by asking it about generated calls."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from driver.cel import compile_selector
from driver.cel.device import DeviceView
from driver.cel.environments import RELEASES
from driver.cel.errors import InvalidSelectorError, SelectorRaisedError
from driver.cel.library import REGISTRY, Entry
from driver.cel.types import Type

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_every_recorded_call_has_the_recorded_outcome(release: str) -> None:
    head, *cases = map(json.loads, gzip.decompress((RECORDED / "calls.jsonl.gz").read_bytes()).splitlines())
    device = DeviceView.build(head["device"], driver="d")
    wrong = []
    for case in cases:
        try:
            found = str(compile_selector(case["expression"], release=release).evaluate(device)).lower()
        except InvalidSelectorError:
            found = "compile-error"
        except SelectorRaisedError:
            found = "evaluation-error"
        if found != case[release]:
            wrong.append(f"{case['expression']}: {case[release]}, ours {found}")
    assert len(cases) > 2000
    assert not wrong


def _signature(entry: Entry) -> str:
    letters = map(chr, itertools.count(ord("A")))
    names: dict[str, str] = {}

    def written(one: Type) -> str:
        if one.variable:
            if one.name not in names:
                names[one.name] = next(letters)
            return names[one.name]
        return f"{one.name}({', '.join(map(written, one.params))})" if one.params else one.name

    parameters = ", ".join(map(written, entry.parameters))
    kind = "method" if entry.method else "function"
    return f"{kind} {entry.name}({parameters}) -> {written(entry.result)}"


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_each_release_has_the_functions_that_kubernetes_has(release: str) -> None:
    expected = {
        line.partition(": ")[2]
        for line in (RECORDED / "overloads.txt").read_text().splitlines()
        if release in line.partition(": ")[0].split()
    }
    ours = {_signature(entry) for entry in REGISTRY if entry.exists_in(RELEASES[release])}
    assert {one for one in ours if not one.startswith(("function _[_]", "function _[?_]"))} == expected


@pytest.mark.parametrize("release", RELEASES)
def test_no_release_has_an_overload_twice(release: str) -> None:
    found = [_signature(entry) for entry in REGISTRY if entry.exists_in(RELEASES[release])]
    assert len(found) == len(set(found))
