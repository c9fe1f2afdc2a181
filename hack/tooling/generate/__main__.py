"""The command line of `hack/generate`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tooling import protos
from tooling.generate import chart_values, crd, device_classes, docs, legacy_names

ROOT = Path(__file__).resolve().parents[3]
_SHOWN_LINES = 12


def generated() -> dict[str, str]:
    """Path to text of all generated files but those of `proto/`."""
    found: dict[str, str] = {}
    for module in (crd, device_classes, chart_values, docs, legacy_names):
        found.update(module.files())
    return found


def differing(wanted: Mapping[str, str], *, root: Path = ROOT) -> dict[str, list[str]]:
    """The files that are not as wanted, each with its difference as the lines of a unified diff."""
    found = {}
    for path, text in sorted(wanted.items()):
        file = root / path
        present = file.read_text(encoding="utf-8") if file.is_file() else ""
        if not file.is_file() or present != text:
            diff = difflib.unified_diff(
                present.splitlines(), text.splitlines(), fromfile=path, tofile="generated", lineterm="", n=1
            )
            found[path] = list(diff)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/generate",
        description="Makes CRDs, DeviceClasses, the chart's values and schema, reference pages and the "
        "kubelet's "
        "contracts from their sources.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail and say what differs")
    options = parser.parse_args(argv)
    wanted = generated()
    changed = differing(wanted)
    for path, diff in changed.items():
        if options.check:
            print(f"differs: {path}")
            print("\n".join(f"    {line}" for line in diff[:_SHOWN_LINES]))
            if len(diff) > _SHOWN_LINES:
                print(f"    ... and {len(diff) - _SHOWN_LINES} more lines")
        else:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
            print(f"wrote: {path}")
    contracts = protos.generate(check=options.check)
    for path in contracts:
        print(f"{'differs' if options.check else 'wrote'}: {path}")
    if options.check and (changed or contracts):
        print(
            f"{len(changed) + len(contracts)} generated files are not what their sources say. Run "
            f"hack/generate."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
