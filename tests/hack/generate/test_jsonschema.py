from __future__ import annotations

import json
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from tooling.generate.jsonschema import flat_schema


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    colour: Colour = Colour.RED


class Outer(BaseModel):
    kind: Literal["Outer"] = "Outer"
    inner: Inner = Field(default=Inner(), description="Beside.")
    several: tuple[Inner, ...] = ()
    perhaps: int | None = None
    mixed: str | int = ""
    free: dict[str, Inner] = {}


def test_references_are_inlined_wherever_they_stand() -> None:
    schema = flat_schema(Outer)
    assert "$ref" not in json.dumps(schema)
    colour = {"enum": ["red", "blue"], "type": "string"}
    for found in (
        schema["properties"]["inner"],
        schema["properties"]["several"]["items"],
        schema["properties"]["free"]["additionalProperties"],
    ):
        assert found["properties"]["colour"] == colour


def test_what_stands_beside_a_reference_wins_over_what_it_refers_to() -> None:
    assert flat_schema(Outer)["properties"]["inner"]["description"] == "Beside."


def test_an_optional_field_is_a_field_that_may_be_left_out() -> None:
    assert flat_schema(Outer)["properties"]["perhaps"] == {"type": "integer"}


def test_a_constant_becomes_an_enum_of_one() -> None:
    assert flat_schema(Outer)["properties"]["kind"]["enum"] == ["Outer"]


def test_a_union_of_scalars_keeps_its_types() -> None:
    assert flat_schema(Outer)["properties"]["mixed"]["type"] == ["integer", "string"]


def test_defaults_are_left_out_unless_they_are_asked_for() -> None:
    assert "default" not in flat_schema(Outer)["properties"]["mixed"]
    assert flat_schema(Outer, keep_defaults=True)["properties"]["mixed"]["default"] == ""


def test_a_union_without_a_plain_form_is_refused() -> None:
    class Either(BaseModel):
        one: Inner | str

    with pytest.raises(ValueError, match="no plain form"):
        flat_schema(Either)
