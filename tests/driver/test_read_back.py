"""What was sent and did not come back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.read_back import differing_fields, lost_fields

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(document=documents)
def test_what_is_stored_as_sent_is_not_dropped(document: Any) -> None:
    assert differing_fields(document, document) == []
    assert lost_fields(document, document) == []


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
    assert differing_fields(sent, stored) == paths


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
    assert differing_fields(sent, stored) == []


@given(sent=documents, stored=documents)
def test_what_is_lost_differs_too(sent: Any, stored: Any) -> None:
    assert bool(differing_fields(sent, stored)) >= bool(lost_fields(sent, stored))


@pytest.mark.parametrize(
    ("sent", "stored", "paths"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, ["a.b"]),
        ({"a": {"b": 1}}, {"a": None}, ["a"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a[1]"]),
        ({"a": "1024Mi"}, {"a": "1Gi"}, []),
        ({"a": 0, "b": False}, {}, []),
    ],
)
def test_where_values_may_be_written_otherwise_only_what_is_missing_is_lost(
    sent: Any, stored: Any, paths: list[str]
) -> None:
    assert lost_fields(sent, stored) == paths
