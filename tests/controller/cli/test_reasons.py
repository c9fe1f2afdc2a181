"""Every reason that may be the answer has a text that was read, for both kinds of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.controller.cli.reasons import ELSEWHERE, GOLDEN, answers_of, document_of, known, with_golden
from tests.controller.cli.test_golden import OTHERS

_OTHER_WORDS = {"ClaimMissing": "ClaimMissing"}
"""Where the state of a claim has a shorter word."""


def test_every_reason_has_a_golden_text_or_a_sentence_that_says_who_hears_it() -> None:
    missing = sorted(set(known()) - set(with_golden()) - set(ELSEWHERE))
    assert not missing, f"say in tests/controller/cli/reasons.py how these are explained: {missing}"


def test_no_golden_text_and_no_sentence_is_about_a_reason_that_is_gone() -> None:
    assert not {*with_golden(), *ELSEWHERE} - set(known())
    assert not set(with_golden()) & set(ELSEWHERE)
    assert {path.stem for path in GOLDEN.iterdir()} == set(with_golden())


@pytest.mark.parametrize("reason", with_golden())
def test_a_reason_is_explained_as_its_golden_text_says(reason: str, tmp_path: Path) -> None:
    text = answers_of(reason, tmp_path)
    assert text == (GOLDEN / f"{reason}.txt").read_text()
    _, developer = text.split("# As an app developer")
    assert not [word for word in OTHERS[:2] if word in developer]


@pytest.mark.parametrize("reason", with_golden())
def test_programs_find_the_reason_by_its_word_or_the_kubelets_sentence(reason: str, tmp_path: Path) -> None:
    document = document_of(reason, tmp_path)
    words = set(_words(document)) | {_OTHER_WORDS.get(reason, "")}
    kind = known()[reason]
    if kind is not None and kind.retriable and document["node"]:
        # What passes by itself gets no Event of the agent.
        assert any(one["by"] == "kubelet" for one in document["events"])
    else:
        assert reason.removeprefix("card-") in words


def _words(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [
            value for key, value in document.items() if key in ("reason", "state") and isinstance(value, str)
        ]
        return own + [word for value in document.values() for word in _words(value)]
    if isinstance(document, list):
        return [word for value in document for word in _words(value)]
    return []
