"""Flags, environment, defaults."""

import dataclasses
import re

import pytest

from controller.settings import Settings, parse_settings
from driver.errors import ConfigError


def test_without_anything_the_defaults_hold() -> None:
    assert parse_settings([], {}) == Settings()


def test_a_flag_beats_the_environment_and_that_the_default() -> None:
    environ = {"DRAGOMAN_LEASE_RETRY": "3", "DRAGOMAN_PUBLISH_WORKERS": "7"}
    settings = parse_settings(["--lease-retry", "1.5"], environ)
    assert (settings.lease_retry, settings.publish_workers) == (1.5, 7)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_switches_are_written_as_true_or_false(text: str, value: bool) -> None:
    assert parse_settings([], {"DRAGOMAN_EXPLAIN": text}).explain is value


@pytest.mark.parametrize(
    ("flag", "text", "sentence"),
    [
        ("--explain", "maybe", "--explain: 'maybe' cannot be read. Write true or false."),
        ("--publish-workers", "2.5", "--publish-workers: '2.5' cannot be read. Write a whole number."),
        ("--publish-workers", "0", "--publish-workers: 0 is too small. At least 1."),
        ("--mode", "magic", "--mode: 'magic' is not known. One of: native, controller."),
        ("--lease-renew-deadline", "20", "--lease-renew-deadline: 20.0 s is not less than lease-duration"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_flag_and_the_remedy(
    flag: str, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse_settings([flag, text], {})


def test_settings_cannot_change_once_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().mode = "other"  # type: ignore[misc]


def test_help_documents_every_flag_and_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal breaks names
    with pytest.raises(SystemExit):
        parse_settings(["--help"], {})
    text = capsys.readouterr().out
    for field in dataclasses.fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text
        assert f"DRAGOMAN_{field.name.upper()}" in text
