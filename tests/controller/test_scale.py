"""What the controller costs in a large cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_MIB = 256


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["native", "controller"])
def test_a_thousand_nodes_of_eight_cards_with_ten_thousand_claims_and_pods_fit_into_256_mib(
    mode: str,
) -> None:
    command = [sys.executable, "-m", "tests.support.large_cluster", mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    published, events, peak_mib = map(int, done.stdout.split())
    assert published == 1000
    assert events > 0
    assert peak_mib < LIMIT_MIB, f"{peak_mib} MiB"
