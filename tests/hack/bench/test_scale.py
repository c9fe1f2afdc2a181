"""`hack/bench scale`: its options, what it sees, and what it says of that."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pytest

from driver.api.node import cards_of, decode_status
from tooling.bench import scale, scale_fill, scale_world
from tooling.bench.errors import BenchError
from tooling.bench.figures import Figures
from tooling.bench.process import Memory, parse_peak
from tooling.bench.scale_run import CONTROLLER_PROCESS, Held, Outcome, Plan, Round, controller_process
from tooling.bench.scale_watch import Times
from tooling.cluster import kwok


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    scale.add_commands(parser.add_subparsers())
    return parser.parse_args(["scale", *arguments])


def plan(mode: str, *, fill: int = 10_000) -> Plan:
    return Plan(mode=mode, kubernetes="1.36.3", nodes=1000, cards=8, claims=1000, rounds=1, fill=fill)


def measured(rate: float, p99: float) -> Round:
    figures = Figures(p50=p99 / 2, p90=p99, p99=p99, rate=rate, cpu=2.0)
    return Round(
        figures=figures,
        allocated=(5.0, 9.0),
        making_s=3.0,
        cpu_ms={CONTROLLER_PROCESS: 2.0, "kube-scheduler": 7.5},
    )


def held(rss: float, *, claims: int = 10_000) -> Held:
    memory = Memory(rss_mib=rss, uss_mib=rss - 20)
    return Held(when="filled", claims=claims, memory=memory, peak_mib=rss + 30)


def outcome(mode: str, *, rate: float = 20.0, rss: float = 200.0, restarts: int = 0) -> Outcome:
    return Outcome(
        plan=plan(mode),
        rounds=[measured(rate, 100 / rate)],
        held=[held(80.0, claims=0), held(rss)],
        restarts=restarts,
    )


def pod_event(name: str, node: str = "") -> dict[str, object]:
    return {"metadata": {"name": name}, "spec": {"nodeName": node} if node else {}}


def claim_event(pod: str) -> dict[str, object]:
    return {"metadata": {"name": f"{pod}-card-x", "ownerReferences": [{"kind": "Pod", "name": pod}]}}


def missed(outcomes: list[Outcome]) -> list[str]:
    return [one.what for one in scale.verdicts(outcomes) if not one.holds]


def test_both_modes_are_measured_each_on_its_release() -> None:
    found = scale.plans(options("--native", "1.37.1"))
    assert [(one.mode, one.kubernetes) for one in found] == [("native", "1.37.1"), ("controller", "1.34.4")]
    assert {(one.nodes, one.cards, one.claims, one.fill) for one in found} == {(1000, 8, 1000, 10_000)}


@pytest.mark.parametrize(
    "given", [("--modes", "native,ours"), ("--rounds", "0"), ("--claims", "0")], ids=lambda one: one[0]
)
def test_what_cannot_be_measured_is_refused(given: tuple[str, str]) -> None:
    with pytest.raises(BenchError):
        scale.plans(options(*given))


def test_a_claim_takes_from_its_first_event_to_its_pods_first_one_with_a_node() -> None:
    times = Times()
    times.pod(pod_event("a"), now=1.0)
    times.claim(claim_event("a"), now=2.0)
    times.claim({**claim_event("a"), "status": {"allocation": {"devices": {}}}}, now=3.0)
    times.claim(claim_event("b"), now=4.0)
    times.pod(pod_event("a", "n1"), now=5.0)
    times.pod(pod_event("a", "n1"), now=6.0)
    assert times.count_bound() == 1
    times.pod(pod_event("b", "n2"), now=8.0)
    assert sorted(times.took_ms()) == [3000.0, 4000.0]
    assert times.allocated_ms() == (1000.0,)
    assert (times.wall_s(), times.making_s()) == (6.0, 2.0)


def test_a_claim_without_a_pod_counts_for_nothing() -> None:
    times = Times()
    times.claim({"metadata": {"name": "alone"}}, now=1.0)
    times.pod(pod_event("x", "n1"), now=2.0)
    assert times.took_ms() == ()


def test_an_inventory_is_one_that_the_controller_can_read() -> None:
    document = scale_world.inventory("kwok-00007", index=7, cards=8, owner_uid="u7")
    cards = cards_of(decode_status(document["status"]))
    assert len({card.name for card in cards}) == 8
    assert {card.memory_mib for card in cards} == {80 * 1024}
    other = scale_world.inventory("kwok-00008", index=8, cards=8, owner_uid="u8")
    assert not {card.name for card in cards} & {
        card.name for card in cards_of(decode_status(other["status"]))
    }


def test_pods_that_ask_go_to_the_nodes_that_kwok_plays() -> None:
    made = kwok.node("kwok-1", labels=scale_world.LABEL)
    assert made["metadata"]["annotations"] == kwok.MANAGED
    selector = scale_world.asking("p")["spec"]["nodeSelector"]
    assert selector.items() <= made["metadata"]["labels"].items()


def test_a_table_holds_both_modes_side_by_side_and_their_ratio() -> None:
    text = scale.times_table([outcome("native", rate=20.0), outcome("controller", rate=10.0)])
    ratio = next(line for line in text.splitlines() if "controller / native" in line)
    assert "0.50" in ratio
    assert "2.00" in ratio
    assert "7.50" in scale.processor_table([outcome("native")])
    assert "200" in scale.memory_table([outcome("native")])


def test_one_mode_alone_has_no_ratio() -> None:
    assert "/ native" not in scale.times_table([outcome("native")])


def test_memory_is_judged_only_with_as_many_claims_as_the_limit_is_for() -> None:
    assert missed([outcome("native"), outcome("controller", rss=300.0)]) == [
        "controller: at most 256 MiB RSS with 10,000 claims"
    ]
    small = Outcome(plan=plan("native", fill=0), rounds=[measured(9, 9)], held=[held(999.0, claims=1000)])
    assert missed([small]) == []


def test_a_controller_that_was_started_again_is_a_miss() -> None:
    assert missed([outcome("native", restarts=1)]) == ["native: the controller never ended by itself"]


def test_the_controllers_process_is_found_by_its_command_and_control_group(tmp_path: Path) -> None:
    for pid, command, cgroup in (
        (11, b"python3\0-m\0controller\0", "4:cpu:/dragoman-3/pods/x\n"),
        (12, b"python3\0-m\0controller\0", "4:cpu:/dragoman-31/pods/x\n"),
        (13, b"python3\0-m\0kubelet_plugin\0", "4:cpu:/dragoman-3/pods/x\n"),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "cmdline").write_bytes(command)
        (folder / "cgroup").write_text(cgroup)
    assert controller_process("dragoman-3", proc=tmp_path) == 11
    with pytest.raises(BenchError, match="0 processes"):
        controller_process("dragoman-4", proc=tmp_path)


def test_the_peak_of_a_process_is_what_the_kernel_says() -> None:
    assert parse_peak("Name:\tpython3\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n") == 200.0


def stored(name: str, *, share: str = "") -> scale_fill.Pattern:
    result = {"request": "card", "driver": "dragoman.dev", "pool": "n1/dragoman", "device": "nvidia-1"}
    given = {"shares": [{"pool": "n1/dragoman", "device": "nvidia-1"}]}
    allocation = {
        "devices": {"results": [{**result, "shareID": share} if share else result], "config": [given]},
        "nodeSelector": {"values": ["n1"]},
    }
    owner = {"kind": "Pod", "name": name, "uid": "u1"}
    meta = {"name": name, "uid": "u2", "resourceVersion": "9", "annotations": {"stamp": "x"}}
    return scale_fill.Pattern(
        claim={
            "metadata": {**meta, "ownerReferences": [owner]},
            "spec": {"devices": {}},
            "status": {"allocation": allocation, "reservedFor": [owner]},
        },
        pod={
            "metadata": meta,
            "spec": {
                "nodeName": "n1",
                "resourceClaims": [{"name": "card", "resourceClaimTemplateName": "share"}],
            },
            "status": {"phase": "Running"},
        },
    )


def test_a_copy_is_the_same_for_another_card_and_node() -> None:
    claim, pod = scale_fill.copied(stored("a", share="s1"), "b", node="n7", device="nvidia-7")
    assert claim["metadata"] == {"name": "b", "annotations": {"stamp": "x"}}
    allocation = claim["status"]["allocation"]
    (result,) = allocation["devices"]["results"]
    assert (result["pool"], result["device"]) == ("n7/dragoman", "nvidia-7")
    assert result["shareID"] not in ("", "s1")
    assert allocation["devices"]["config"][0]["shares"] == [{"pool": "n7/dragoman", "device": "nvidia-7"}]
    assert allocation["nodeSelector"] == {"values": ["n7"]}
    assert "reservedFor" not in claim["status"]
    assert pod["spec"]["nodeName"] == "n7"
    assert pod["spec"]["resourceClaims"] == [{"name": "card", "resourceClaimName": "b"}]


def test_copies_lie_on_all_nodes_in_turn_and_no_card_holds_more_than_fit() -> None:
    cards = [("n1", ["a", "b"]), ("n2", ["c", "d"])]
    holds = Counter({("n1/dragoman", "a"): 3, ("n2/dragoman", "c"): 1})
    found = scale_fill.places(7, cards, holds=holds, most=3)
    assert found[:2] == [("n1", "b"), ("n2", "c")]
    assert Counter(found) == {("n1", "b"): 3, ("n2", "c"): 2, ("n2", "d"): 2}
    with pytest.raises(BenchError, match="room for 8 claims more"):
        scale_fill.places(9, cards, holds=holds, most=3)
