from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tooling.image.errors import ImageError
from tooling.image.push import push_commands

TAR = Path("/images/dragoman.tar")
REFERENCE = "registry.example.org/team/dragoman:1"


def _has(*tools: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in tools else None


@pytest.mark.parametrize(
    ("tools", "first"),
    [
        (("docker", "skopeo"), ["skopeo", "copy", f"oci-archive:{TAR}", f"docker://{REFERENCE}"]),
        (("docker", "crane"), ["crane", "push", str(TAR), REFERENCE]),
        (("docker",), ["docker", "load", "--input", str(TAR)]),
        (("podman",), ["podman", "load", "--input", str(TAR)]),
    ],
)
def test_a_tool_that_needs_no_engine_is_preferred(tools: tuple[str, ...], first: list[str]) -> None:
    assert (
        push_commands(TAR, name="localhost/dragoman:1", reference=REFERENCE, which=_has(*tools))[0] == first
    )


def test_an_engine_gives_the_loaded_image_its_new_name_and_pushes_that() -> None:
    commands = push_commands(TAR, name="localhost/dragoman:1", reference=REFERENCE, which=_has("docker"))
    assert commands[1:] == [
        ["docker", "tag", "localhost/dragoman:1", REFERENCE],
        ["docker", "push", REFERENCE],
    ]


def test_without_any_tool_the_way_around_is_told() -> None:
    with pytest.raises(ImageError, match=r"skopeo, crane, podman nor docker.*images import dragoman\.tar"):
        push_commands(TAR, name="localhost/dragoman:1", reference=REFERENCE, which=_has())
