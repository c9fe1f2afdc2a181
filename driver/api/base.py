"""The base of all documents, and how a document that does not fit is refused.

Limits: strict (no `"20"` for 20), unknown fields forbidden with the nearest known name in the remedy, frozen,
camelCase outside and snake_case inside.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from driver.errors import ConfigError

API_VERSION: Final = "dragoman.dev/v1alpha1"

Model = TypeVar("Model", bound="Document")

_TYPES = {"int": "a whole number", "str": "a text", "bool": "true or false"}
"""What pydantic adds to the place of a field that may be of several types."""


class Document(BaseModel):
    """Base of every document of the group `dragoman.dev`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        validate_by_alias=True,
        # Code makes documents by Python's names; `decode` accepts nothing but the names of manifests.
        validate_by_name=True,
        serialize_by_alias=True,
    )


def decode(model: type[Model], document: Mapping[str, Any], *, field: str = "") -> Model:
    """Decodes a JSON object strictly.

    Args:
        model: What it has to be.
        document: The object, as decoded from JSON or YAML.
        field: Path of the object in the manifest it came from; put in front of the path in errors.

    Raises:
        ConfigError: Naming the first field that does not fit, and what to write instead.
    """
    found, misfits = _read(model, document, field=field)
    if found is not None:
        return found
    # A misspelt required field is unknown and missing at once: the misspelling is what a person can mend.
    first = next((error for error in misfits if error["type"] == "extra_forbidden"), misfits[0])
    raise _config_error(model, first, field=field, others=len(misfits) - 1)


@dataclass(frozen=True)
class Misfit:
    """A part of a document that does not fit.

    Attributes:
        place: Names and numbers that lead to it.
        unknown: It is a field that is not known, and does not only have a value that cannot be.
        error: As `decode` would raise it.
    """

    place: tuple[int | str, ...]
    unknown: bool
    error: ConfigError


def misfits_of(model: type[Document], document: Mapping[str, Any], *, field: str = "") -> tuple[Misfit, ...]:
    """All parts of a JSON object that do not fit; none if it decodes.

    Raises:
        ConfigError: It is no JSON object, or nests too deeply.
    """
    return tuple(
        Misfit(
            place=tuple(error["loc"]),
            unknown=error["type"] == "extra_forbidden",
            error=_config_error(model, error, field=field),
        )
        for error in _read(model, document, field=field)[1]
    )


def _read(
    model: type[Model], document: Mapping[str, Any], *, field: str
) -> tuple[Model | None, list[ErrorDetails]]:
    try:
        # Through JSON, because strict mode refuses a list for a tuple and a str for an enum in Python mode.
        return model.model_validate_json(json.dumps(document), by_alias=True, by_name=False), []
    except ValidationError as invalid:
        return None, _joined(invalid.errors(include_url=False))
    except RecursionError:
        raise ConfigError("This nests too deeply to be read.", field=field) from None
    except (TypeError, ValueError) as invalid:
        raise ConfigError(f"This is not a JSON object: {invalid}.", field=field) from None


def _joined(misfits: list[ErrorDetails]) -> list[ErrorDetails]:
    """The same with one misfit for a field that may be of several types, where pydantic has one for each."""
    types: dict[tuple[int | str, ...], list[str]] = {}
    for one in misfits:
        if one["loc"] and one["loc"][-1] in _TYPES:
            types.setdefault(one["loc"][:-1], []).append(_TYPES[str(one["loc"][-1])])
    found: list[ErrorDetails] = []
    for one in misfits:
        several = types.get(one["loc"][:-1], []) if one["loc"] and one["loc"][-1] in _TYPES else []
        if len(several) < 2:
            found.append(one)
        elif not any(other["loc"] == one["loc"][:-1] for other in found):
            message = f"Input should be {' or '.join(several)}"
            found.append({**one, "type": "several_types", "loc": one["loc"][:-1], "msg": message})
    return found


def _config_error(model: type[Document], first: ErrorDetails, *, field: str, others: int = 0) -> ConfigError:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    where = f"{field}{path}" if field else path.removeprefix(".")
    more = f" ({others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        known = _known_names(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(sorted(known))}."
        return ConfigError(f"This field is not known{more}.", field=where, remedy=remedy)
    if first["type"] == "missing":
        return ConfigError(f"This field is required{more}.", field=where)
    message = first["msg"].removeprefix("Value error, ")
    remedy = ""
    if first["type"] in ("enum", "literal_error"):
        known = re.findall("'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        near = difflib.get_close_matches(str(first["input"])[:128], known, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"{message}{more}.".replace("..", "."), field=where, remedy=remedy)


def _known_names(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        annotation = next(
            (info.annotation for info in current.model_fields.values() if info.alias == part), None
        )
        current = _model_in(annotation)
        if current is None:
            return []
    return [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
