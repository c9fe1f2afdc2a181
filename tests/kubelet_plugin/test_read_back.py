from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelet_plugin.read_back import dropped_fields

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(document=documents)
def test_what_is_stored_as_sent_is_not_dropped(document: Any) -> None:
    assert dropped_fields(document, document) == []


@pytest.mark.parametrize(
    ("sent", "stored", "paths"),
    [
        ({"a": 1}, {}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, ["a.b"]),
        ({"a": {"b": 1}}, {}, ["a"]),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {}]}, ["a[1].b"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a"]),
        ({"a": 1}, {"a": 2}, ["a"]),
    ],
)
def test_a_dropped_field_is_named_by_its_path(sent: Any, stored: Any, paths: list[str]) -> None:
    assert dropped_fields(sent, stored) == paths


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": ""}, {}),
        ({"a": False, "b": [], "c": {}}, {}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
    ],
)
def test_what_others_add_and_what_says_nothing_is_no_drop(sent: Any, stored: Any) -> None:
    assert dropped_fields(sent, stored) == []
