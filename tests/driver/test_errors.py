from __future__ import annotations

from driver.errors import ConfigError, DragomanError


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
