"""What the mock NVML library says, written as a test wants it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from tests.native.build import mock_nvml

UUIDS = [f"GPU-5c1f2a3b-0000-4000-8000-00000000000{n}" for n in range(4)]


class NvmlWorld:
    """The file that the mock library reads at each call.

    The library reads the variable by C's getenv, which sees what `os.environ` sets.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.init = 0
        self.driver = "535.261.03"
        self.cards: list[dict[str, str]] = []
        self.xids: list[tuple[int, int]] = []
        self.double_bits: list[int] = []
        os.environ["MOCK_NVML_FILE"] = str(path)
        self.write()

    def card(self, number: int, **fields: str) -> None:
        """Adds a card, or changes one."""
        known = {
            "uuid": UUIDS[number],
            "name": "NVIDIA A100-SXM4-40GB",
            "memory": "40960",
            "pci": f"00000000:{0x3B + number:02X}:00.0",
            "minor": str(number),
            "arch": "7",
        }
        if number < len(self.cards):
            self.cards[number].update(fields)
        else:
            self.cards.append({**known, **fields})
        self.write()

    def write(self) -> None:
        """Writes the file; called by `card`, and by tests that change the rest."""
        lines = [f"init\t{self.init}", f"driver\t{self.driver}"]
        lines += ["\t".join(["card", *(f"{k}={v}" for k, v in card.items())]) for card in self.cards]
        lines += [f"xid\t{index}\t{code}" for index, code in self.xids]
        lines += [f"dbe\t{index}\t1" for index in self.double_bits]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.path)


def loader(*, old: bool = False) -> Callable[[], ctypes.CDLL]:
    """Loads the mock library, each time as a library of its own as far as pynvml can tell."""
    return lambda: ctypes.CDLL(str(mock_nvml(old=old)))
