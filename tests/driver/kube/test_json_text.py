"""No text that the API server hands on ends its reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.kube.json_text import MAX_DEPTH, parse_json


def nested(levels: int, *, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "1" + closing * levels


def depth(document: Any) -> int:
    levels = 0
    level = [document]
    while level := [one for one in level if isinstance(one, dict | list)]:
        levels += 1
        level = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
    return levels


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 5_000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"]]":', "}]")])
def test_what_lies_too_deep_becomes_null(levels: int, opening: str, closing: str) -> None:
    found = parse_json(
        f'{{"before": [1], "deep": {nested(levels, opening=opening, closing=closing)}, "after": 2}}'
    )
    assert found["before"] == [1]
    assert found["after"] == 2
    assert depth(found) == MAX_DEPTH


def test_every_deep_subtree_is_cut_and_its_neighbours_stay() -> None:
    deep = nested(5_000)
    assert parse_json(f"[{deep}, 1, {deep}]".encode())[1] == 1


def test_what_is_as_deep_as_allowed_is_kept_whole() -> None:
    assert parse_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
    )
)
def test_an_ordinary_text_means_what_it_means_to_the_standard_library(document: Any) -> None:
    assert parse_json(json.dumps(document)) == document
    assert parse_json(json.dumps(document, ensure_ascii=False).encode()) == document


def test_brackets_in_strings_do_not_count() -> None:
    assert parse_json(f'["\\"{"[" * 5_000}", {nested(5_000)}]')[0] == '"' + "[" * 5_000


def test_half_a_surrogate_pair_survives() -> None:
    assert parse_json(rb'{"a": "\ud800"}') == {"a": "\ud800"}


def test_an_integer_of_thousands_of_digits_is_read_as_well_as_it_can_be() -> None:
    assert parse_json("[" + "9" * 5_000 + ", 7]") == [float("inf"), 7]


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nonsense", b"\xff\xfe{", ("[" * 5_000).encode(), b'["' + b"\\" * 9]
)
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)
