"""Whatever people write: a selector answers, or raises an error of its own."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel import DeviceView, compile_selector
from driver.cel.tokens import tokenize
from driver.errors import SelectorError

CORPUS = Path(__file__).parents[2] / "corpora" / "cel"
WORDS = """
    ( ) [ ] { } . ? .? , : ! - + && || == in ' " r' b" \\ 0 1 9223372036854775808 0x 1e u null true device
    dyn( all(x, map( cel.bind( has( // ` \u00e9 google.protobuf.Int64Value{ optional.none() size( string(
    int( % * [? {? .format( quantity( duration( timestamp( ip( cidr( url( semver(
    .sortBy( lists.range( sets.contains(
"""
PIECES = WORDS.split()


def expressions() -> list[str]:
    found: list[str] = []
    for name in ("handwritten", "random"):
        with gzip.open(CORPUS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found += [json.loads(line)["expression"] for line in lines if '"expression"' in line]
    return found


TEXTS = expressions()


def mutated(source: random.Random) -> str:
    """Change an expression by characters, or put it together from tokens of two."""
    text = source.choice(TEXTS)
    if source.random() < 0.5:
        words = [token[1] for token in tokenize(text)[:-1]]
        others = [token[1] for token in tokenize(source.choice(TEXTS))[:-1]]
        for _ in range(source.randrange(1, 4)):
            place = source.randrange(len(words) + 1)
            words[place : place + source.randrange(3)] = source.sample(others, min(len(others), 2))
        return " ".join(words)
    for _ in range(source.randrange(1, 4)):
        place = source.randrange(len(text) + 1)
        text = text[:place] + source.choice(PIECES) + text[place + source.randrange(4) :]
    return text


def try_it(expression: str, device: DeviceView, release: str = "1.37") -> None:
    with contextlib.suppress(SelectorError):
        assert compile_selector(expression, release=release).evaluate(device) in {True, False}


@pytest.mark.parametrize("release", ["1.34", "1.37"])
def test_thousands_of_mutated_expressions_raise_nothing_but_errors_of_selectors(
    card: DeviceView, release: str
) -> None:
    source = random.Random(f"mutations {release}")
    for _ in range(2500):
        try_it(mutated(source), card, release)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_an_error_of_one(text: str) -> None:
    try_it(text, DeviceView.build({}, driver="d"))


@given(st.text(max_size=20), st.sampled_from(['"', "'", '"""', "r'", 'b"']))
def test_any_text_in_quotes_is_read_or_refused(text: str, quote: str) -> None:
    try_it(
        f"{quote}{text}{quote.lstrip('rb')} == {quote}{text}{quote.lstrip('rb')}",
        DeviceView.build({}, driver="d"),
    )
