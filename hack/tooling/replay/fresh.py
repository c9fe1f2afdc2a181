"""What new selectors and new allocations have in common: the seed, and how a run ends."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 20
"""Disagreements that are printed for a release."""


def chosen_seed(options: argparse.Namespace) -> int:
    """The seed that was given, else a new one; printed at once, so that any run can be repeated."""
    seed = options.fresh if options.fresh >= 0 else random.SystemRandom().randrange(1 << 32)
    print(f"==> new cases of {options.what}, seed {seed}", flush=True)
    return seed


def close(
    wrong: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], summaries: Mapping[str, str], *, seed: int
) -> int:
    """Print the disagreements as lines for tests/corpora/regressions, and the rates; 1 if there are any."""
    for release, cases in wrong.items():
        if cases:
            print(
                f"Disagreements with {release}, the shortest first, as lines for tests/corpora/regressions:"
            )
        texts = sorted(
            ("\n".join(json.dumps(line, ensure_ascii=False) for line in case) for case in cases), key=len
        )
        for text in texts[:SHOWN]:
            print(text)
        if len(texts) > SHOWN:
            print(f"... and {len(texts) - SHOWN} more")
    for release, summary in summaries.items():
        print(f"{release}, seed {seed}: {summary}")
    return 1 if any(wrong.values()) else 0
