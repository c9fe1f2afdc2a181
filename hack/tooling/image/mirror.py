"""Finds the Debian mirror that this machine already uses.

Purpose: the tree names no host; whoever builds the image has a mirror in apt's own configuration, or
says which.
Flow: `find_mirror` reads apt's files, `parse_sources` understands both of their formats.
Limits: an entry counts only when it is for Debian itself: its suite is a Debian release and its
component `main`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tooling.image.errors import ImageError

SUITE = "bookworm"
"""Debian 12: its Python is 3.11, the oldest that the project supports."""

_RELEASES = ("bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable")
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where Debian's packages come from; `security` is "" where the machine names no security archive."""

    archive: str
    security: str = ""


def parse_sources(text: str) -> list[tuple[str, str]]:
    """The (URI, suite) pairs of an apt source file of either format, for the component `main`."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match and "main" in match["components"].split():
            found.append((match["uri"].rstrip("/"), match["suite"]))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            key.strip().lower(): value.split()
            for key, separator, value in (
                line.partition(":") for line in stanza.splitlines() if line[:1] != "#"
            )
            if separator and not key.startswith("deb ")
        }
        if "deb" in fields.get("types", []) and "main" in fields.get("components", []):
            found += [
                (uri.rstrip("/"), suite)
                for uri in fields.get("uris", [])
                for suite in fields.get("suites", [])
            ]
    return found


def choose(entries: Iterable[tuple[str, str]]) -> Mirror | None:
    """The mirror among apt's entries; None when none of them is for a release of Debian."""
    archive = security = ""
    for uri, suite in entries:
        release, _, pocket = suite.partition("-")
        if release not in _RELEASES or not uri.startswith(("http://", "https://", "file:")):
            continue
        if pocket == "security":
            security = security or uri
        elif not pocket:
            archive = archive or uri
    return Mirror(archive=archive, security=security) if archive else None


def find_mirror(*, chosen: str = "", apt: Path = Path("/etc/apt")) -> Mirror:
    """The mirror to use: `chosen` when given, else what apt on this machine uses.

    Raises:
        ImageError: There is none, as on a machine that is not Debian.
    """
    if chosen:
        return Mirror(archive=chosen.rstrip("/"))
    folder = apt / "sources.list.d"
    files = [apt / "sources.list", *sorted(folder.glob("*.sources")), *sorted(folder.glob("*.list"))]
    mirror = choose(entry for file in files if file.is_file() for entry in parse_sources(file.read_text()))
    if mirror is None:
        raise ImageError(
            "This machine's apt names no Debian mirror.",
            remedy="Name one: hack/image --mirror URL, or DRAGOMAN_DEBIAN_MIRROR=URL. "
            "With a container engine and a registry, the Dockerfile does without.",
        )
    return mirror
