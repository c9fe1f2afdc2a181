from __future__ import annotations

from pathlib import Path

import pytest

from tooling.image.errors import ImageError
from tooling.image.mirror import Mirror, choose, find_mirror, parse_sources

DEB822 = """\
Types: deb
# http://snapshot.example.org/archive
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example.org/debian-security/
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def test_both_archives_are_read_from_the_newer_format() -> None:
    assert choose(parse_sources(DEB822)) == Mirror(
        archive="http://mirror.example.org/debian", security="http://mirror.example.org/debian-security"
    )


def test_the_one_line_format_is_read_with_and_without_options() -> None:
    text = """\
# deb http://no.example.org x main
deb [arch=amd64 signed-by=/k.gpg] http://a.example.org/debian trixie main
"""
    assert parse_sources(text) == [("http://a.example.org/debian", "trixie")]


def test_entries_of_others_than_debian_are_no_mirror() -> None:
    text = """\
deb https://packages.example.org/apt cloud-sdk-bookworm main
deb https://x.example.org nodistro main
"""
    assert choose(parse_sources(text)) is None


def test_entries_without_the_component_main_or_for_sources_do_not_count() -> None:
    text = """\
deb http://a.example.org/debian bookworm contrib
deb-src http://a.example.org/debian bookworm main
"""
    assert parse_sources(text) == []


def test_a_mirror_that_was_named_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_mirror(chosen="http://mine.example.org/debian/", apt=tmp_path) == Mirror(
        archive="http://mine.example.org/debian"
    )


def test_apts_own_files_are_looked_through(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert find_mirror(apt=tmp_path).archive == "http://mirror.example.org/debian"


def test_a_machine_without_a_mirror_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"--mirror URL.*Dockerfile"):
        find_mirror(apt=tmp_path)
