"""Why claims get nothing, and what would help."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

import pytest

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from driver.allocation.why_not import WhyNot, why_not
from tests.driver.allocation.builders import card, claim, device_class, exclusive, pool, request

JSON = dict[str, Any]
MODEL = 'device.attributes["dragoman.dev"].model'


def modelled(name: str, model: str, **more: Any) -> JSON:
    made = card(name, **more)
    made["attributes"]["model"] = {"string": model}
    return made


def holds(node: str, device: str, memory: str, cores: str = "0") -> JSON:
    result = {
        "request": "r",
        "driver": "dragoman.dev",
        "pool": node,
        "device": device,
        "shareID": f"{node}-{device}",
        "consumedCapacity": {"memory": memory, "cores": cores},
    }
    metadata = {"name": "secret-claim", "namespace": "secret-team", "uid": f"secret-{node}-{device}"}
    return {"metadata": metadata, "status": {"allocation": {"devices": {"results": [result]}}}}


def whole(node: str, device: str) -> JSON:
    result = {"request": "r", "driver": "dragoman.dev", "pool": node, "device": device}
    return {"metadata": {"name": "w"}, "status": {"allocation": {"devices": {"results": [result]}}}}


def ask(
    *claims: JSON,
    slices: Iterable[JSON],
    held: Iterable[JSON] = (),
    classes: Iterable[JSON] = (),
    **more: Any,
) -> WhyNot:
    snapshot = Snapshot.build(
        slices=slices, classes=[device_class(), *classes], claims=held, nodes=more.pop("nodes_known", ())
    )
    return why_not(snapshot, claims=list(claims), **more)


def node(name: str, *cards: JSON, **more: Any) -> JSON:
    return pool(*cards, node=name, **more)


def grounds(answer: WhyNot) -> dict[str, tuple[int, int]]:
    return {one.reason: (one.cards, one.nodes) for one in answer.grounds}


def changes(answer: WhyNot) -> dict[str, str]:
    return {one.kind: one.line() for one in answer.changes}


def test_what_is_free_is_told_as_a_range_over_all_cards() -> None:
    slices = [node("n1", card("a"), card("b")), node("n2", card("a"))]
    held = [holds("n1", "a", "78Gi"), holds("n1", "b", "60Gi"), holds("n2", "a", "49Gi")]
    answer = ask(claim(request(ask={"memory": "40Gi"})), slices=slices, held=held)
    (ground,) = answer.grounds
    assert ground.line() == (
        "3 cards on 2 nodes: CapacityInUse: memory: asks 40Gi, free 2Gi-31Gi of 80Gi (e.g. n1 a)"
    )
    assert ground.passing
    assert answer.reason == "NoDevice"
    assert answer.retriable


def test_the_largest_amount_that_fits_is_found_and_so_is_waiting() -> None:
    slices = [node("n1", card("a"), card("b")), node("n2", card("a"))]
    held = [holds("n1", "a", "78Gi"), holds("n1", "b", "60Gi"), holds("n2", "a", "49Gi")]
    answer = ask(claim(request(ask={"memory": "40Gi"})), slices=slices, held=held)
    assert changes(answer) == {
        "Release": "wait until others release what they hold: fits on n1 (a)",
        "Amount": "ask for memory 31Gi instead of 40Gi: would fit on n2 (a)",
    }
    assert [one.passing for one in answer.changes] == [True, False]


def test_amounts_of_both_dimensions_are_lowered_where_both_are_short() -> None:
    held = [holds("n1", "a", "50Gi", "80")]
    answer = ask(
        claim(request(ask={"memory": "40Gi", "cores": "30"})), slices=[node("n1", card("a"))], held=held
    )
    expected = "ask for memory 30Gi instead of 40Gi and cores 20 instead of 30: would fit on n1 (a)"
    assert changes(answer)["Amount"] == expected


def test_for_several_cards_the_amount_is_one_that_as_many_have() -> None:
    held = [holds("n1", "a", "40Gi"), holds("n1", "b", "50Gi")]
    answer = ask(
        claim(request(ask={"memory": "60Gi"}, count=3)),
        slices=[node("n1", card("a"), card("b"), card("c"))],
        held=held,
    )
    assert changes(answer)["Amount"] == "ask for memory 30Gi instead of 60Gi: would fit on n1 (a, b, c)"
    assert changes(answer)["Count"] == "count 1 instead of 3: would fit on n1 (c)"


def test_where_cards_are_too_few_their_number_is_told_first() -> None:
    slices = [node("n1", card("a")), node("n2", card("a"), card("b", memory="1Gi"), card("c"))]
    answer = ask(claim(request(ask={"memory": "40Gi"}, count=3)), slices=slices)
    first = "2 nodes: NoDevice: 3 cards are wanted of one node, and 1 to 2 would do (e.g. n1)"
    assert answer.grounds[0].line() == first
    assert grounds(answer)["CapacityTooSmall"] == (1, 1)


def test_amounts_above_what_one_request_may_have_are_told_as_a_range() -> None:
    def limited(name: str, memory: str) -> JSON:
        made = copy.deepcopy(card(name))
        made["capacity"]["memory"]["requestPolicy"]["validRange"]["max"] = memory
        return made

    answer = ask(
        claim(request(ask={"memory": "40Gi"})),
        slices=[node("n1", limited("a", "24Gi"), limited("b", "16Gi"))],
    )
    assert [one.sentence() for one in answer.grounds] == ["memory: asks 40Gi, a request may have 16Gi-24Gi"]
    assert changes(answer)["Amount"] == "ask for memory 24Gi instead of 40Gi: would fit on n1 (a)"


def test_waiting_is_not_advised_where_cards_are_too_small() -> None:
    answer = ask(claim(request(ask={"memory": "90Gi"})), slices=[node("n1", card("a"))])
    assert (
        answer.grounds[0].line().startswith("1 card on 1 node: CapacityTooSmall: memory: asks 90Gi, the card")
    )
    assert changes(answer) == {"Amount": "ask for memory 80Gi instead of 90Gi: would fit on n1 (a)"}
    assert not answer.retriable


def test_the_false_part_of_a_selector_is_told_with_the_values_seen() -> None:
    wanted = claim(request(selectors=[f'device.driver == "dragoman.dev" && {MODEL} == "H100"']))
    slices = [node(f"n{k}", modelled("a", "A100"), modelled("b", "L4")) for k in range(3)]
    answer = ask(wanted, slices=slices)
    (ground,) = answer.grounds
    assert (ground.cards, ground.nodes) == (6, 3)
    assert ground.sentence() == f'{MODEL} == "H100" is false (model is "A100" or "L4")'
    assert changes(answer)["Selector"] == f'drop {MODEL} == "H100": would fit on n0 (a)'


def test_numbers_that_a_selector_reads_are_a_range() -> None:
    wanted = claim(
        request(
            selectors=['device.capacity["dragoman.dev"].memory > quantity("1Ti")']
            and ['device.capacity["dragoman.dev"].memory.isGreaterThan(quantity("1Ti"))']
        )
    )
    answer = ask(wanted, slices=[node("n1", card("a"), card("b", memory="24Gi"))])
    assert "(memory is 24Gi-80Gi)" in answer.grounds[0].sentence()


def test_a_class_that_is_false_is_named_and_not_the_authors_to_change() -> None:
    classes = [device_class("big", f'{MODEL} == "H100"')]
    wanted = claim(request(deviceClassName="big"))
    answer = ask(wanted, slices=[node("n1", modelled("a", "A100"))], classes=classes)
    assert answer.grounds[0].text == f'class big: {MODEL} == "H100" is false'
    assert "Selector" not in changes(answer)


def test_a_selector_that_raises_is_told_with_what_is_absent() -> None:
    answer = ask(claim(request(selectors=[f'{MODEL} == "H100"'])), slices=[node("n1", card("a"))])
    assert answer.reason == "SelectorFailed"
    assert "raises: no such key" in answer.grounds[0].text
    assert "model is absent" in answer.grounds[0].sentence()
    assert "has()" in answer.headline()


def test_a_taint_is_named_and_tolerating_it_is_tried() -> None:
    tainted = card("a", taints=[{"key": "maintenance", "value": "soon", "effect": "NoSchedule"}])
    answer = ask(claim(request(ask={"memory": "1Gi"})), slices=[node("n1", tainted)])
    assert answer.grounds[0].text == "taint maintenance=soon:NoSchedule is not tolerated"
    assert changes(answer) == {
        "Tolerate": "tolerate the taint maintenance=soon:NoSchedule: would fit on n1 (a)"
    }


def test_a_taint_that_is_not_all_that_stands_in_the_way_is_not_advised_to_be_tolerated() -> None:
    tainted = card("a", taints=[{"key": "k", "effect": "NoSchedule"}])
    answer = ask(claim(request(ask={"memory": "1Gi"}, count=2)), slices=[node("n1", tainted)])
    together = "tolerate the taint k:NoSchedule and count 1 instead of 2: would fit on n1 (a)"
    assert changes(answer) == {"Several": together}


def test_cards_that_are_held_as_a_whole_are_told_so() -> None:
    slices = [node("n1", exclusive("x"), card("a"))]
    held = [whole("n1", "x"), whole("n1", "a")]
    answer = ask(claim(request(ask={"memory": "1Gi"})), slices=slices, held=held)
    assert grounds(answer) == {"InUse": (2, 1)}
    assert answer.grounds[0].text == "held as a whole"


def test_a_constraint_is_told_with_values_and_dropping_it_is_tried() -> None:
    slices = [node("n1", modelled("a", "A100"), modelled("b", "L4"))]
    wanted = claim(
        request("x", ask={"memory": "80Gi"}),
        request("y", ask={"memory": "80Gi"}),
        constraints=[{"matchAttribute": "dragoman.dev/model"}],
    )
    answer = ask(wanted, slices=slices)
    assert "ConstraintUnmet" in grounds(answer)
    message = next(one.message for one in answer.grounds if one.reason == "ConstraintUnmet")
    assert "A100" in message
    assert "L4" in message
    assert changes(answer)["Constraint"] == (
        "drop the constraint matchAttribute dragoman.dev/model: would fit on n1 (a, b)"
    )


def test_shared_counters_that_are_used_up_pass_with_a_release() -> None:
    counters = [{"name": "set", "counters": {"slots": {"value": "1"}}}]
    drawing = [{"counterSet": "set", "counters": {"slots": {"value": "1"}}}]
    parts = [exclusive(name, consumesCounters=drawing) for name in ("p0", "p1")]
    pools = {"pool": {"name": "n1", "generation": 1, "resourceSliceCount": 2}}
    slices = [
        node("n1", *parts, slice_name="s1", **pools),
        node("n1", slice_name="s0", sharedCounters=counters, **pools),
    ]
    answer = ask(claim(request(), name="c"), slices=slices, held=[whole("n1", "p0")])
    assert grounds(answer) == {"InUse": (1, 1), "CountersExhausted": (1, 1)}
    assert "Release" in changes(answer)


def test_an_incomplete_pool_and_an_invalid_one_are_told_with_their_cards() -> None:
    missing = {"pool": {"name": "n1", "generation": 1, "resourceSliceCount": 2}}
    slices = [node("n1", card("a"), **missing), node("n2", card("a"), card("a"))]
    answer = ask(claim(request()), slices=slices)
    assert grounds(answer) == {"PoolIncomplete": (1, 1), "PoolInvalid": (2, 1)}


def test_a_pool_whose_newer_slices_are_for_other_nodes_is_told_as_obsolete() -> None:
    old = {"pool": {"name": "p", "generation": 1, "resourceSliceCount": 2}}
    new = {"pool": {"name": "p", "generation": 2, "resourceSliceCount": 2}}
    slices = [
        node("n1", card("a"), slice_name="s1", **old),
        node("n2", card("b", memory="1Gi"), slice_name="s2", **new),
    ]
    answer = ask(claim(request(ask={"memory": "2Gi"})), slices=slices, nodes=["n1"])
    assert grounds(answer) == {"PoolObsolete": (0, 1)}


def test_a_node_that_no_slice_selects_is_told_so() -> None:
    selector = {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]
    }
    one = pool(card("a", memory="1Gi"), nodeName="", nodeSelector=selector)
    labelled = [
        {"metadata": {"name": "n1", "labels": {"zone": "z"}}},
        {"metadata": {"name": "n2", "labels": {"zone": "y"}}},
    ]
    answer = ask(claim(request(ask={"memory": "2Gi"})), slices=[one], nodes_known=labelled)
    assert grounds(answer) == {"CapacityTooSmall": (1, 1), "NoSlice": (0, 1)}


def test_the_first_request_that_cannot_be_met_is_to_blame() -> None:
    wanted = claim(request("ok", ask={"memory": "1Gi"}), request("huge", ask={"memory": "99Gi"}))
    answer = ask(wanted, slices=[node("n1", card("a"))])
    assert [one.request for one in answer.grounds] == ["huge"]
    assert [one.request for one in answer.changes] == ["huge"]


def test_of_several_claims_the_one_to_blame_is_named() -> None:
    small, huge = claim(request(ask={"memory": "1Gi"})), claim(request(ask={"memory": "99Gi"}), name="big")
    answer = ask(small, huge, slices=[node("n1", card("a"))])
    assert answer.grounds[0].request == "default/big r"
    assert "Amount" in changes(answer)


def test_requests_that_fit_one_by_one_but_not_together_are_searched() -> None:
    asked = {"memory": "50Gi"}
    answer = ask(claim(request("x", ask=asked), request("y", ask=asked)), slices=[node("n1", card("a"))])
    assert answer.reason == "NoCombination"
    assert "CapacityInUse" in grounds(answer)


def test_where_claims_fit_that_is_said() -> None:
    answer = ask(claim(request(ask={"memory": "1Gi"})), slices=[node("n1", card("a")), node("n2", card("a"))])
    assert (answer.reason, answer.fits, answer.example) == ("", 2, "n1")
    assert answer.to_text() == "2 of 2 nodes can take the claims, for example n1."


def test_what_is_wrong_with_the_claim_itself_is_told_once_with_field_and_remedy() -> None:
    answer = ask(claim(request(deviceClassName="ghost")), slices=[node("n1", card("a"))])
    assert answer.reason == "DeviceClassNotFound"
    assert "spec.devices.requests[0].exactly.deviceClassName" in answer.headline()
    assert "Create it" in answer.to_text()


def test_without_nodes_that_is_the_answer() -> None:
    assert "no node" in ask(claim(request()), slices=[]).to_text()


def test_mode_all_is_answered_by_the_allocator() -> None:
    wanted = claim(request(allocationMode="All"))
    answer = ask(wanted, slices=[node("n1", card("a"))], held=[whole("n1", "a")])
    assert answer.fits == 0
    assert "InUse" in grounds(answer)


def test_sub_requests_are_changed_in_their_place() -> None:
    small = {"deviceClassName": "any", "capacity": {"requests": {"memory": "90Gi"}}}
    listed: JSON = {"name": "r", "firstAvailable": [{**small, "name": "a"}, {**small, "name": "b"}]}
    answer = ask(claim(listed), slices=[node("n1", card("x"))])
    assert answer.changes[0].request == "r/b"
    assert changes(answer)["Amount"].startswith("ask for memory 80Gi instead of 90Gi")


def test_the_claims_that_were_given_are_not_changed_by_trying() -> None:
    wanted = claim(request(ask={"memory": "90Gi"}, count=2, selectors=["true && false"]))
    before = json.dumps(wanted)
    ask(wanted, slices=[node("n1", card("a"))])
    assert json.dumps(wanted) == before


def test_nothing_of_other_claims_is_named() -> None:
    held = [holds("n1", "a", "78Gi")]
    answer = ask(claim(request(ask={"memory": "40Gi"})), slices=[node("n1", card("a"))], held=held)
    assert "secret" not in answer.to_text() + json.dumps(answer.to_json())


def test_five_thousand_nodes_read_in_ten_lines() -> None:
    cards = [
        lambda k: card("a", taints=[{"key": f"t{k % 30}", "effect": "NoSchedule"}]),
        lambda k: card("a", memory=f"{1 + k % 9}Gi"),
    ]
    slices = [node(f"n{k:03d}", cards[k % 2](k)) for k in range(200)]
    answer = ask(claim(request(ask={"memory": "20Gi"})), slices=slices)
    lines = answer.to_text(100).splitlines()
    assert len(lines) <= 10
    assert all(len(line) <= 100 for line in lines)
    assert lines[0] == "0 of 200 nodes can take the claims."
    assert "further reasons" in answer.to_text()
    assert "would help" in lines[-1]


@pytest.mark.parametrize("lines", [3, 5, 8])
def test_a_text_is_no_longer_than_wanted_and_says_what_would_help(lines: int) -> None:
    slices = [
        node("n1", *(card(f"c{k}", taints=[{"key": f"t{k}", "effect": "NoExecute"}]) for k in range(9)))
    ]
    text = ask(claim(request(ask={"memory": "1Gi"})), slices=slices).to_text(max_lines=lines)
    assert len(text.splitlines()) <= lines
    assert "would help" in text


def test_the_answer_is_json() -> None:
    answer = ask(claim(request(ask={"memory": "90Gi"})), slices=[node("n1", card("a"))])
    read = json.loads(json.dumps(answer.to_json()))
    assert read["grounds"][0]["reason"] == "CapacityTooSmall"
    assert read["grounds"][0]["example"] == {
        "node": "n1",
        "device": "a",
        "message": answer.grounds[0].message,
    }
    assert read["changes"][0]["kind"] == "Amount"


def test_a_line_break_in_what_somebody_wrote_stays_within_its_line() -> None:
    wanted = claim(request(selectors=[f'{MODEL} == "x\\n"\n&& true']))
    answer = ask(wanted, slices=[node("n1", modelled("a", "A\n100"))])
    assert len(answer.to_text().splitlines()) == 1 + len(answer.grounds) + len(answer.changes)


def test_selectors_that_read_computed_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.allocation.why_not.judge.MAX_SINGLE", 10)
    slices = [node(f"n{k:02d}", card("a"), card("b")) for k in range(20)]
    answer = ask(claim(request(selectors=['"x" in device.attributes'])), slices=slices)
    assert answer.skipped == 15
    assert "15 were not searched" in answer.headline()


def test_searches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.allocation.why_not.survey.MAX_SEARCHES", 2)
    asked = {"memory": "50Gi"}
    wanted = claim(
        request("x", ask=asked),
        request("y", ask=asked),
        constraints=[{"matchAttribute": "dragoman.dev/uuid"}],
    )
    answer = ask(wanted, slices=[node(f"n{k}", card(f"a{k}")) for k in range(6)])
    assert answer.skipped == 4
    assert answer.retriable


def test_a_cluster_gives_the_same_grounds_as_its_snapshot() -> None:
    slices = [node("n1", card("a"), card("b")), node("n2", card("a"))]
    held = [holds("n1", "a", "78Gi"), holds("n1", "b", "60Gi"), holds("n2", "a", "49Gi")]
    wanted = claim(request(ask={"memory": "40Gi"}))
    bare = Snapshot.build(slices=slices, classes=[device_class()])
    cluster = Cluster.build(bare, claims=held)
    assert why_not(cluster, claims=[wanted]) == ask(wanted, slices=slices, held=held)
    assert why_not(cluster, claims=[claim(request(ask={"memory": "31Gi"}))]).example == "n2"
    assert why_not(cluster, claims=[claim(request(ask={"memory": "31Gi"}))], nodes=["n1"]).fits == 0


def test_over_a_cluster_a_change_is_tried_on_all_nodes() -> None:
    selector = f'{MODEL} == "H100"'
    slices = [node(f"n{k:02d}", modelled("a", "A100", memory="1Gi")) for k in range(20)]
    slices.append(node("n99", modelled("a", "A100")))
    wanted = claim(request(selectors=[selector], ask={"memory": "40Gi"}))
    cluster = Cluster.build(Snapshot.build(slices=slices, classes=[device_class()]))
    assert changes(why_not(cluster, claims=[wanted]))["Selector"] == f"drop {selector}: would fit on n99 (a)"


def test_a_claim_that_can_be_met_nowhere_by_its_number_is_told_so_before_any_card_is_looked_at() -> None:
    answer = ask(claim(request(count=33)), slices=[node("n1", card("a"))])
    assert answer.reason == "TooManyDevices"
    assert answer.grounds == ()


def test_a_claim_without_requests_fits_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.allocation.why_not.survey.MAX_SEARCHES", 0)
    assert ask(claim(), slices=[node("n1", card("a")), node("n2", card("a"))]).fits == 2


def test_a_selector_that_does_not_compile_is_told_so() -> None:
    answer = ask(claim(request(selectors=["device."])), slices=[node("n1", card("a"))])
    assert answer.reason == "SelectorInvalid"
    assert answer.grounds[0].text.startswith("device. does not compile: ")


def test_requests_that_ask_the_same_are_looked_at_once_and_many_different_ones_on_few_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("driver.allocation.why_not.survey.MAX_VERDICTS", 12)
    slices = [node(f"n{k}", card("a")) for k in range(12)]
    same = claim(*(request(f"r{k}", ask={"memory": "99Gi"}) for k in range(6)))
    assert ask(same, slices=slices).skipped == 0
    different = claim(*(request(f"r{k}", ask={"memory": f"{90 + k}Gi"}) for k in range(6)))
    assert ask(different, slices=slices).skipped == 10


def test_where_no_single_change_helps_several_are_piled_up_on_a_node() -> None:
    tainted = modelled("a", "A100", taints=[{"key": "k", "effect": "NoSchedule"}])
    wanted = claim(request(selectors=[f'{MODEL} == "H100"'], ask={"memory": "90Gi"}))
    answer = ask(wanted, slices=[node("n1", tainted)])
    assert changes(answer) == {
        "Several": (
            f'drop {MODEL} == "H100" and ask for memory 80Gi instead of 90Gi and tolerate the taint '
            "k:NoSchedule: would fit on n1 (a)"
        )
    }


def test_more_changes_than_three_are_not_advised() -> None:
    tainted = modelled("a", "A100", taints=[{"key": f"k{k}", "effect": "NoSchedule"} for k in range(4)])
    assert ask(claim(request(ask={"memory": "1Gi"})), slices=[node("n1", tainted)]).changes == ()
