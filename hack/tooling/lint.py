"""Every check that is not a test, one after the other, with a table at the end.

Flow: each check is a command; all of them run even if one fails, so that one run shows everything.
Limits: `--fix` changes style only (ruff); types, contracts and generated files are for a person to mend.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what a person calls it, and its command."""

    name: str
    argv: tuple[str, ...]


def checks(*, fix: bool) -> list[Check]:
    """All checks, the quick ones first."""
    tools = Path(sys.executable).parent
    ruff = str(tools / "ruff")
    return [
        Check(name="style", argv=(ruff, "check", "--quiet", *(["--fix"] if fix else []), ".")),
        Check(name="format", argv=(ruff, "format", "--quiet", *([] if fix else ["--check"]), ".")),
        Check(name="import contracts", argv=(str(tools / "lint-imports"), "--no-cache")),
        Check(name="generated files", argv=(sys.executable, "-m", "tooling.generate", "--check")),
        Check(
            name="types",
            argv=(
                str(tools / "mypy"),
                "-p",
                "driver",
                "-p",
                "kubelet_plugin",
                "-p",
                "controller",
                "-p",
                "tooling",
            ),
        ),
    ]


def main() -> int:
    """Runs the checks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hack/lint", description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="let ruff mend style and format first")
    arguments = parser.parse_args()
    rows: list[tuple[str, str, float]] = []
    for check in checks(fix=arguments.fix):
        print(f"==> {check.name}", flush=True)
        began = time.monotonic()
        status = subprocess.run(check.argv, cwd=ROOT, check=False).returncode
        rows.append((check.name, "ok" if status == 0 else "FAILED", time.monotonic() - began))
    width = max(len(name) for name, _, _ in rows)
    print()
    for name, outcome, seconds in rows:
        print(f"{name:<{width}}  {outcome:<6}  {seconds:5.1f} s")
    return 1 if any(outcome != "ok" for _, outcome, _ in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
