"""What the documentation points at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    missing = [target for target, _ in _LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/])(hack/[a-z-]+)(?![\w/-])", page.read_text()))
    assert not [command for command in named if not (ROOT / command).exists()]


def test_the_table_for_users_names_examples_that_exist() -> None:
    named = set(re.findall(r"`([a-z0-9-]+\.yaml)`", (ROOT / "docs" / "user.md").read_text()))
    assert named
    assert not [name for name in named if not (ROOT / "manifests" / "examples" / name).exists()]


def test_no_document_names_a_registry_host() -> None:
    hosts = re.compile(r"\b(ghcr\.io|docker\.io|quay\.io|gcr\.io|registry\.k8s\.io)\b")
    assert not [page for page in PAGES if hosts.search(page.read_text())]
