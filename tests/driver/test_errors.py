from __future__ import annotations

from typing import Any

import pytest

from driver.errors import ConfigError, DragomanError, shown, spelled


def test_a_refusal_reads_as_field_message_and_remedy() -> None:
    error = ConfigError("'4 Gi' is not a quantity", field="spec.memory", remedy="Write 4Gi.")
    assert str(error) == "spec.memory: '4 Gi' is not a quantity. Write 4Gi."


def test_a_refusal_without_field_and_remedy_is_its_message() -> None:
    assert str(ConfigError("No.")) == "No."


def test_reasons_are_camel_case_words() -> None:
    kinds = _all(DragomanError)
    assert all(kind.reason.isidentifier() and kind.reason[0].isupper() for kind in kinds)


def _all(kind: type[DragomanError]) -> list[type[DragomanError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _all(sub))]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (1.5, "1.5"),
        ("a 'b'", "\"a 'b'\""),
        ("True", "'True'"),
        (1 << 80, "A number"),
        ({"a": None}, "An object"),
        ([True], "A list"),
    ],
)
def test_a_value_is_shown_in_the_words_of_documents(value: Any, text: str) -> None:
    assert shown(value) == text


def test_what_is_shown_of_a_value_is_short() -> None:
    assert len(shown("x" * 10_000_000)) == 80
    assert len(shown(float("1" * 30))) <= 80


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (False, "false"), ("4Gi", "4Gi"), (30, "30")]
)
def test_a_value_is_spelled_as_a_document_does(value: Any, text: str) -> None:
    assert spelled(value) == text
