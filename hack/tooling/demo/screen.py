"""What a person sees: headings, a table of cards, a line for each step of a claim, the picture.

Flow: values in, rich output out. On a terminal, what does not fit into its width goes on below, indented;
names and paths are never broken, so that they can be copied. Elsewhere it is the same text without colours,
one line for each sentence.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from driver.cards import Card
from driver.quantities import MIB, format_bytes
from tooling.demo.picture import CardUse, draw
from tooling.demo.story import Told

LIMITS = ("CUDA_DEVICE_MEMORY_LIMIT_", "CUDA_DEVICE_SM_LIMIT_")
"""Start of the variables by which the preload library is told its limits."""


class Screen:
    """The demonstration's output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    def line(self, text: str = "", style: str = "") -> None:
        """One sentence; on a terminal it goes on below, indented by two more, where it does not fit."""
        self._console.print(Text(self._folded(text), style=style))

    def heading(self, text: str) -> None:
        """Begins a numbered part."""
        self._step += 1
        self._console.print()
        self._console.print(Text(f"{self._step}. {text}", style="bold"))

    def cards(self, cards: Sequence[Card]) -> None:
        """The cards that the agent found."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        device = max(len(card.name) for card in cards) + 3
        # Where the terminal is narrow, the model gives way: names, amounts and methods are never cut.
        model = max(self._console.width - device - 2 - len("  memory  not offered"), len("model"))
        table.add_column("   device", no_wrap=True, min_width=device)
        table.add_column("model", no_wrap=True, overflow="ellipsis", max_width=model)
        table.add_column("memory", no_wrap=True, justify="right", min_width=len("memory"))
        table.add_column("held by", no_wrap=True, min_width=len("not offered"))
        for card in cards:
            table.add_row(
                f"   {card.name}",
                card.model,
                format_bytes(card.memory_mib * MIB),
                "not offered" if card.unpublished else str(card.memory_isolation),
            )
        self._console.print(table)
        for card in cards:
            if card.unpublished:
                self.line(f"   {card.name}: {card.unpublished}", "dim")

    def told(self, told: Told, *, spec: Path | None) -> None:
        """What became of one claim."""
        name, story = told.asked.name, told.asked.story
        if told.refusal is not None:
            self._title("✘", "red", name=name, story=story)
            self.line(f"    not allocated: {told.refusal.message}")
            for device in told.refusal.devices:
                self.line(f"      {device.device}: {device.message}", "dim")
            if told.refusal.remedy:
                self.line(f"    {told.refusal.remedy}")
            return
        answer = told.answer
        prepared = answer is not None and not answer.error
        mark, style = ("✔", "green") if prepared else ("✘", "red")
        self._title(mark, style, name=name, story=story)
        for result in told.results:
            amounts = result.get("consumedCapacity") or {}
            held = ", ".join(f"{key} {value}" for key, value in sorted(amounts.items(), reverse=True))
            self.line(f"    allocated: {result['request']} → {result['device']}  ({held})")
        if answer is None:
            return
        if answer.error:
            self.line(f"    refused at prepare: {answer.error}", "red")
            return
        count = f"{len(answer.cdi_ids)} CDI device{'s' * (len(answer.cdi_ids) != 1)}"
        # The folder stands at the end, and whole paths are twice as wide as a terminal.
        where = spec.name if spec else "no file"
        self.line(f"    prepared over gRPC in {answer.milliseconds:.0f} ms: {count} in {where}")
        for limit in _limits(spec) if spec else []:
            self.line(f"      {limit}", "dim")

    def picture(self, uses: Sequence[CardUse]) -> None:
        """Who holds what."""
        for line in draw(uses, colour=self._console.is_terminal and not self._console.no_color):
            self._console.print(line)

    def _title(self, mark: str, style: str, *, name: str, story: str) -> None:
        text = Text(self._folded(f"{mark} {name}  {story}".rstrip()))
        text.stylize(style, 0, len(mark))
        text.stylize("bold", len(mark) + 1, len(mark) + 1 + len(name))
        self._console.print(text)

    def _folded(self, text: str) -> str:
        if not self._console.is_terminal or len(text) <= self._console.width:
            return text
        indent = len(text) - len(text.lstrip())
        return textwrap.fill(
            text.strip(),
            width=max(self._console.width, indent + 20),
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _limits(spec: Path) -> list[str]:
    document: dict[str, Any] = json.loads(spec.read_text())
    # A device is named <claim UID>.<request>.<card>.<share>.
    return [
        f"{device['name'].split('.')[1]}: {entry}"
        for device in document["devices"]
        for entry in device["containerEdits"].get("env", [])
        if entry.startswith(LIMITS)
    ]
