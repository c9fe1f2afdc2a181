"""The clocked caller, against a call of a table."""

import threading

import pytest

from tooling.bench.errors import BenchError
from tooling.bench.kubelet import Ref, measure
from tooling.bench.start import nvml_script
from tooling.bench.world import CARDS, simulated_cards

REFS = [Ref(namespace="n", name=f"claim-{index}", uid=str(index)) for index in range(40)]


@pytest.mark.parametrize("at_once", [1, 8])
def test_each_claim_is_called_once_and_keeps_its_own_time(at_once: int) -> None:
    called: list[str] = []

    def call(ref: Ref) -> float:
        called.append(ref.uid)
        return float(ref.uid)

    found = measure(call, REFS, at_once=at_once)
    assert sorted(called) == sorted(ref.uid for ref in REFS)
    assert found.milliseconds == tuple(float(ref.uid) for ref in REFS)
    assert found.wall_s > 0


def test_so_many_calls_are_under_way_at_once() -> None:
    together = threading.Barrier(8)

    def call(ref: Ref) -> float:
        # Gets through only if eight callers are here at the same time.
        together.wait(timeout=60)
        return 1.0

    assert len(measure(call, REFS[:16], at_once=8).milliseconds) == 16


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_refused_claim_ends_the_measurement(at_once: int) -> None:
    def call(ref: Ref) -> float:
        if ref.uid == "17":
            raise BenchError("refused")
        return 1.0

    with pytest.raises(BenchError, match="refused"):
        measure(call, REFS, at_once=at_once)


def test_the_cards_of_the_measured_node_hold_all_its_claims() -> None:
    cards = simulated_cards()["cards"]
    assert len({card["uuid"] for card in cards}) == CARDS
    # 1 percent of compute each, 1,000 prepared already and 200 measured.
    assert CARDS * 100 >= 1200


def test_the_scripted_nvml_has_so_many_different_cards() -> None:
    lines = [line for line in nvml_script(8).splitlines() if line.startswith("card\t")]
    assert len(lines) == 8
    for field in ("uuid=", "pci=", "minor="):
        assert len({part for line in lines for part in line.split("\t") if part.startswith(field)}) == 8
