"""Who holds what on each card, as bars.

Flow: `CardUse` values (pure data) -> `draw` -> lines for a rich console; on a terminal each claim has a
colour, elsewhere a letter, so that the plain text says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from string import ascii_uppercase

from rich.text import Text

from driver.quantities import MIB, format_bytes

WIDTH = 40
"""Characters of a bar."""

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
FREE = "·"


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What one claim holds of one card.

    Attributes:
        claim: Name of the claim and its request.
        memory_mib: Memory in MiB.
        cores_percent: Cap on compute in percent; 0 = no cap.
        whole: The claim has the card to itself.
    """

    claim: str
    memory_mib: int
    cores_percent: int
    whole: bool


@dataclass(frozen=True, kw_only=True)
class CardUse:
    """A card and all that is held of it."""

    device: str
    title: str
    memory_mib: int
    holdings: tuple[Holding, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Key:
    """How one claim is drawn everywhere."""

    letter: str
    colour: str


def keys_for(uses: Sequence[CardUse]) -> dict[str, Key]:
    """A letter and a colour for each claim, in order of appearance."""
    names = list(dict.fromkeys(holding.claim for use in uses for holding in use.holdings))
    return {
        name: Key(letter=letter, colour=colour)
        for name, letter, colour in zip(names, cycle(ascii_uppercase), cycle(COLOURS), strict=False)
    }


def draw(uses: Sequence[CardUse], *, colour: bool) -> list[Text]:
    """The picture, line by line."""
    keys = keys_for(uses)
    lines: list[Text] = []
    for use in uses:
        lines.append(Text.assemble((use.title, "bold"), f"  {use.device}"))
        if use.note:
            lines += [Text(f"  {use.note}", style="dim"), Text()]
            continue
        memory = [(holding, holding.memory_mib) for holding in use.holdings]
        cores = [(holding, _compute(holding)) for holding in use.holdings]
        held = sum(amount for _, amount in memory)
        given = sum(amount for _, amount in cores)
        lines.append(
            _bar("memory", memory, total=use.memory_mib, keys=keys, colour=colour)
            + Text(f"  {format_bytes(held * MIB)} of {format_bytes(use.memory_mib * MIB)}")
        )
        lines.append(
            _bar("cores", cores, total=100, keys=keys, colour=colour)
            + Text(f"  {given} % of 100 % given out")
        )
        lines += [_legend(holding, keys[holding.claim], colour=colour) for holding in use.holdings]
        lines.append(Text())
    return lines


def _compute(holding: Holding) -> int:
    """Percent of the card's compute that nobody else gets: who has the card to himself shares none of it."""
    return 100 if holding.whole and not holding.cores_percent else holding.cores_percent


def _bar(
    name: str, parts: Sequence[tuple[Holding, int]], *, total: int, keys: dict[str, Key], colour: bool
) -> Text:
    bar = Text(f"  {name:<6} [")
    used = 0
    for holding, amount in parts:
        if amount == 0:
            continue
        # A share is never invisible, however small: at least one character, as long as there is room.
        length = min(max(1, round(amount / total * WIDTH)), WIDTH - used)
        used += length
        key = keys[holding.claim]
        bar.append(("█" if colour else key.letter) * length, style=key.colour if colour else "")
    bar.append(FREE * (WIDTH - used), style="dim")
    bar.append("]")
    return bar


def _legend(holding: Holding, key: Key, *, colour: bool) -> Text:
    mark = ("■", key.colour) if colour else (key.letter, "")
    cap = f"{holding.cores_percent} % of its compute" if holding.cores_percent else "no cap on compute"
    what = "the whole card" if holding.whole else f"{format_bytes(holding.memory_mib * MIB)} and {cap}"
    if holding.whole and holding.cores_percent:
        what += f", {cap}"
    return Text.assemble("    ", mark, f" {holding.claim}: {what}")
