from __future__ import annotations

import io
import re

from rich.console import Console

from driver.cards import Card, IsolationLevel
from driver.quantities import MIB
from tooling.demo.agent import Answer
from tooling.demo.manifests import Asked
from tooling.demo.screen import Screen
from tooling.demo.story import Told

NAME = "nvidia-a1000000-0000-4000-8000-000000000002"
SENTENCE = f"      {NAME}: memory: asked 70Gi, at most 40Gi for one request"


def shown(*, width: int, terminal: bool = True) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False, soft_wrap=True)
    return Screen(console), out


def lines(out: io.StringIO) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()]


def test_what_a_terminal_has_no_room_for_goes_on_below_and_indented() -> None:
    screen, out = shown(width=80)
    screen.line(SENTENCE, "dim")
    assert lines(out) == [f"      {NAME}: memory: asked 70Gi, at most", "        40Gi for one request"]


def test_a_name_is_never_broken_however_narrow_the_terminal_is() -> None:
    screen, out = shown(width=20)
    screen.line(SENTENCE)
    assert f"      {NAME}:" in lines(out)


def test_a_file_has_one_line_for_each_sentence() -> None:
    screen, out = shown(width=40, terminal=False)
    screen.line(SENTENCE)
    assert lines(out) == [SENTENCE]


def test_a_table_of_cards_fits_a_terminal_of_80_columns() -> None:
    screen, out = shown(width=80)
    card = Card(
        name=NAME,
        vendor="nvidia",
        model="NVIDIA A100-PCIE-40GB of a long name",
        memory_bytes=40960 * MIB,
        memory_isolation=IsolationLevel.PRELOAD,
        cores_isolation=IsolationLevel.PRELOAD,
    )
    screen.cards([card])
    assert max(map(len, lines(out))) <= 80
    assert f"   {NAME}  NVIDIA A1" in out.getvalue()
    assert "40Gi  preload" in out.getvalue()


def test_the_name_of_a_claim_stands_out_also_where_its_story_is_folded() -> None:
    screen, out = shown(width=40)
    asked = Asked(
        claim={"metadata": {"name": "two-cards"}}, pod={}, story="8 GiB on each of two different cards"
    )
    screen.told(Told(asked=asked, answer=Answer(error="", cdi_ids=(), milliseconds=1.0)), spec=None)
    assert "\x1b[1mtwo-cards\x1b[0m" in out.getvalue()
    assert lines(out)[:2] == ["✔ two-cards  8 GiB on each of two", "  different cards"]
