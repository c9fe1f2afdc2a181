"""What validation found.

Limits: at most `MAX_FINDINGS` of each, so that an answer stays readable however much is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.errors import DragomanError
from driver.validation.limits import MAX_FIELD, MAX_FINDINGS, MAX_MESSAGE, MAX_WARNING


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with an object.

    Attributes:
        errors: Why it must not be stored, each with reason, field and remedy; empty if it may.
        warnings: What its author should know, as sentences.
    """

    errors: tuple[DragomanError, ...] = ()
    warnings: tuple[str, ...] = ()


class Notes:
    """Findings as they come about."""

    def __init__(self) -> None:
        self._errors: list[DragomanError] = []
        self._warnings: dict[str, None] = {}

    @property
    def failed(self) -> bool:
        """Whether anything must be refused."""
        return bool(self._errors)

    @property
    def full(self) -> bool:
        """Whether no further warning would be told, so that none need be worked out."""
        return len(self._warnings) >= MAX_FINDINGS

    def refuse(self, error: DragomanError) -> None:
        """Notes an error."""
        if len(self._errors) < MAX_FINDINGS:
            # A field's name may be all that somebody hostile wrote.
            error.field, error.message = _cut(error.field, MAX_FIELD), _cut(error.message, MAX_MESSAGE)
            self._errors.append(error.with_traceback(None))

    def warn(self, sentence: str, *, field: str = "") -> None:
        """Notes a warning."""
        text = f"{field}: {sentence}" if field else sentence
        if len(self._warnings) < MAX_FINDINGS:
            self._warnings[_cut(text, MAX_WARNING)] = None

    def findings(self) -> Findings:
        """All of them."""
        return Findings(errors=tuple(self._errors), warnings=tuple(self._warnings))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
