from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.host import CommandResult
from driver.quantities import MIB
from driver.vendors.reading import (
    ATTRIBUTE_LIMIT,
    MOST_LINES,
    Program,
    UnreadableError,
    amount_of,
    attribute,
    clean,
    entries,
    listing,
    memory_bytes,
    optional,
    report_lines,
    rows,
    shown,
    text_of,
    whole_number,
)
from tests.support.folder_host import FolderHost


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    return FolderHost(tmp_path)


def test_an_attribute_is_its_line_without_the_end(host: FolderHost) -> None:
    host.add("/sys/a", "0x10de\n")
    assert attribute("/sys/a", host=host) == "0x10de"


def test_an_attribute_that_is_not_there_is_empty(host: FolderHost) -> None:
    host.add("/sys/a")
    assert (attribute("/sys/b", host=host), attribute("/sys/a/b", host=host)) == ("", "")


@pytest.mark.parametrize("content", ["1\n2", "1\0002", "1" * (ATTRIBUTE_LIMIT + 1)])
def test_an_attribute_that_is_no_short_line_is_refused(host: FolderHost, content: str) -> None:
    host.add("/sys/a", content)
    with pytest.raises(UnreadableError, match="/sys/a"):
        attribute("/sys/a", host=host)
    assert optional("/sys/a", host=host) == ""


def test_a_folder_that_cannot_be_read_is_empty(host: FolderHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(host, "list_dir", refuse)
    assert listing("/sys", host=host) == []


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0x1f", 31), ("0X1F", 31), ("012", 12)])
def test_numbers_are_read_as_sysfs_writes_them(text: str, number: int) -> None:
    assert whole_number(text, what="it") == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "0x", "١", "1 2", "1" * 21])  # noqa: RUF001
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError, match="no number"):
        whole_number(text, what="it")


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("81920MiB", "", 81920 * MIB),
        ("96 GiB", "", 96 << 30),
        ("42976 MiB", "m", 42976 * MIB),
        ("65024", "m", 65024 * MIB),
        ("64", "g", 64 << 30),
        ("49152 MB", "", 49152 * MIB),
        ("32768.00 MB", "", 32768 * MIB),
        ("34359738368", "", 32 << 30),
        ("34359738368B", "m", 32 << 30),
        ("1.0 TiB", "", 1 << 40),
    ],
)
def test_amounts_are_read_as_programs_write_them(text: str, unit: str, amount: int) -> None:
    assert amount_of(text, what="memory", unit=unit) == amount


@pytest.mark.parametrize(
    "text", ["", "N/A", "-1 MiB", "1.5 GiB", "GiB", "1 MiBs", "0 MiB", "1" * 21, "99 TiB"]
)
def test_what_is_no_amount_of_a_cards_memory_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        amount_of(text, what="memory")


def test_memory_is_rounded_down_to_whole_mib() -> None:
    assert memory_bytes(2 * MIB + 1, what="memory") == 2 * MIB


def test_what_others_wrote_is_made_fit_for_one_line() -> None:
    assert clean("  A\tB\n\x1b[31mC  ") == "A B [31mC"
    assert len(shown("x" * 10_000)) == 80
    assert shown("\x00\x1b\n word") == "word"


@settings(max_examples=60)
@given(text=st.text(max_size=300))
def test_whatever_is_shown_is_printable_and_short(text: str) -> None:
    assert shown(text).isprintable()
    assert len(clean(text)) <= 64


def test_entries_know_under_which_headings_they_are() -> None:
    report = (
        "Card 0\n    Name : A : B\n    PCI\n        Bus : 3b\n    Memory :\n\tTotal : 1\nCard 1\n Name : C\n"
    )
    assert [(one.path, one.key, one.value) for one in entries(report)] == [
        (("Card 0",), "Name", "A : B"),
        (("Card 0", "PCI"), "Bus", "3b"),
        (("Card 0",), "Total", "1"),
        (("Card 1",), "Name", "C"),
    ]


def test_only_so_many_lines_of_a_report_are_looked_at() -> None:
    assert sum(1 for _ in report_lines("a\n" * (MOST_LINES + 5))) == MOST_LINES


def test_rows_are_read_by_column_and_a_heading_is_skipped() -> None:
    assert rows("index, name\n\n0, A B\n", columns=("index", "name"), what="x") == [
        {"index": "0", "name": "A B"}
    ]


def test_a_row_with_other_columns_is_refused() -> None:
    with pytest.raises(UnreadableError, match="x wrote 3 columns instead of 2: 0, A, B"):
        rows("0, A, B", columns=("index", "name"), what="x")


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": {"b": " x "}}, "x"),
        ({"a": {"b": 5}}, "5"),
        ({"a": {"b": True}}, ""),
        ({"a": {"b": 1.5}}, ""),
        ({"a": {"b": 10**5000}}, ""),
        ({"a": []}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_texts_of_documents_are_texts_or_whole_numbers(document: object, text: str) -> None:
    assert text_of(document, "a", "b") == text


def program(host: FolderHost, *, name: str = "smi", **result: object) -> Program:
    known = {"returncode": 0, "stdout": "", "stderr": "", **result}
    host.programs[name] = lambda argv: CommandResult(**known)  # type: ignore[arg-type]
    return Program(names=("smi", "/opt/vendor/smi"))


def test_the_first_place_where_a_program_is_installed_counts(host: FolderHost) -> None:
    asked = program(host, name="/opt/vendor/smi", stdout="here")
    assert asked.ask("-q", host=host) == "here"
    assert host.ran == [("smi", "-q"), ("/opt/vendor/smi", "-q")]


def test_a_program_that_is_nowhere_is_named_with_a_remedy(host: FolderHost) -> None:
    with pytest.raises(UnreadableError, match="smi is not installed") as refused:
        Program(names=("/opt/vendor/smi",)).ask(host=host)
    assert "driver" in refused.value.remedy


def test_a_program_that_ends_with_an_error_is_quoted(host: FolderHost) -> None:
    asked = program(host, returncode=3, stderr="no\x1b[31m devices\n")
    with pytest.raises(UnreadableError, match=r"smi ended with 3: no\[31m devices\."):
        asked.ask(host=host)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[" * (MOST_LINES + 1), "NaN!"])
def test_what_is_no_json_of_bearable_size_is_refused(host: FolderHost, text: str) -> None:
    with pytest.raises(UnreadableError, match="JSON"):
        program(host, stdout=text).ask_json(host=host)


def test_deep_json_is_refused_and_not_a_crash(host: FolderHost) -> None:
    depth = sys.getrecursionlimit() * 3
    with pytest.raises(UnreadableError, match="JSON"):
        program(host, stdout="[" * depth + "]" * depth).ask_json(host=host)
