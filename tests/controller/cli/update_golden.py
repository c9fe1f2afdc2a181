"""Writes the golden texts anew: `python -m tests.controller.cli.update_golden`; then read the difference."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.controller.cli import reasons
from tests.controller.cli.cases import CASES, EXAMPLES
from tests.controller.cli.world import dragoman

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 100


def text_of(name: str, folder: Path) -> str:
    """What a case prints, with its command and its exit status."""
    world, arguments = CASES[name]()
    done = dragoman(world, folder, *arguments, columns=WIDTH)
    shown = " ".join(arguments).replace(f"{EXAMPLES}/", "")
    # Seconds go by while the test runs.
    out = re.sub(r"in \d+ s at the latest", "in 19 s at the latest", done.out)
    return f"$ kubectl dragoman {shown}\n{out}{done.err}exit status {done.status}\n"


def main() -> None:
    """Writes all of them."""
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            (GOLDEN / f"{name}.txt").write_text(text_of(name, Path(folder)))
        reasons.GOLDEN.mkdir(exist_ok=True)
        for reason in reasons.with_golden():
            (reasons.GOLDEN / f"{reason}.txt").write_text(reasons.answers_of(reason, Path(folder)))


if __name__ == "__main__":
    main()
