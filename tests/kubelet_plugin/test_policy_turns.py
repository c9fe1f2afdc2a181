"""The agent's side of a rollout: what holds until it is this node's turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.api.base import decode
from driver.api.node import AgentStatus, status_of
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.api.rollout import ChangeState, PolicyChange
from driver.cards import Card
from kubelet_plugin.policy_turns import Decided, PolicyTurns

CARD = Card(name="c", vendor="v", model="M", uuid="GPU-1", memory_bytes=24 << 30)
NOW = 1_700_000_000


def policy(name: str = "p", **spec: Any) -> NamedPolicy:
    return NamedPolicy(name=name, spec=decode(AcceleratorPolicySpec, spec, field="spec"))


LIMITED = policy(maxUnavailable=1)
CHANGED = policy(maxUnavailable=1, sharing=False)


def reported(*policies: NamedPolicy, change: PolicyChange | None = None, cards: int = 1) -> dict[str, Any]:
    """What an AcceleratorNode says while these policies hold."""
    status = status_of(
        [CARD] * cards,
        agent=AgentStatus(version="1"),
        policy=effective_policy(policies, node_labels={}),
        change=change,
    )
    return status.model_dump(mode="json", exclude_none=True)


def turns(status: Mapping[str, Any] | None = None) -> PolicyTurns:
    made = PolicyTurns(clock=lambda: NOW)
    made.restore(reported(LIMITED) if status is None else status)
    return made


def decide(made: PolicyTurns, *policies: NamedPolicy, **numbers: int) -> Decided:
    target = effective_policy(policies, node_labels={})
    return made.decide(target, policies=policies, turns=numbers, cards=("GPU-1",))


def sharing(found: Decided) -> object:
    return found.policy.settings["sharing"].value


def number(found: Decided) -> int:
    assert found.change is not None
    return found.change.number


def test_a_change_waits_for_the_turn_of_its_number() -> None:
    made = turns()
    waits = decide(made, CHANGED)
    assert waits.change == PolicyChange(
        number=NOW, state=ChangeState.WAITING, policies=("p",), fields=("sharing",)
    )
    assert sharing(waits) is True
    assert sharing(decide(made, CHANGED, p=NOW - 1)) is True
    assert sharing(decide(made, CHANGED, other=NOW)) is True
    done = decide(made, CHANGED, p=NOW)
    assert sharing(done) is False
    assert done.change is not None
    assert done.change.state == "Done"


def test_without_a_limit_a_change_holds_at_once() -> None:
    found = decide(turns(reported()), policy(sharing=False))
    assert (sharing(found), found.change) == (False, None)


def test_what_shapes_no_card_holds_at_once() -> None:
    found = decide(turns(), policy(maxUnavailable=1, ignoredXids=[63]))
    assert (found.policy.settings["ignoredXids"].value, found.change) == ((63,), None)


def test_another_change_gets_another_number_and_the_turn_of_the_first_is_of_no_use() -> None:
    made = turns()
    first = number(decide(made, CHANGED))
    other = policy(maxUnavailable=1, sharing=False, excluded=True)
    second = decide(made, other, p=first)
    assert number(second) == first + 1
    assert sharing(second) is True
    # The first again is a third change.
    assert number(decide(made, CHANGED, p=first)) == first + 2


def test_a_change_that_is_taken_back_waits_no_more() -> None:
    made = turns()
    first = number(decide(made, CHANGED))
    back = decide(made, LIMITED, p=first)
    assert back.change is not None
    assert back.change.state == "Done"
    assert number(decide(made, CHANGED, p=first)) == first + 1


def test_a_change_waits_for_all_policies_that_limit_it() -> None:
    low, high = policy("a", sharing=False, maxUnavailable=1), policy("b", maxUnavailable=1, priority=1)
    says = policy("b", maxUnavailable=1, priority=1, sharing=True, excluded=True)
    made = turns(reported(low, high))
    waits = decide(made, low, says)
    assert waits.change is not None
    assert waits.change.policies == ("a", "b")
    assert decide(made, low, says, b=NOW).policy.settings["excluded"].value is False
    assert decide(made, low, says, a=NOW, b=NOW).policy.settings["excluded"].value is True


def test_a_limit_that_goes_lets_the_change_in() -> None:
    made = turns()
    decide(made, CHANGED)
    found = decide(made, policy(sharing=False))
    assert sharing(found) is False
    assert found.change is not None
    assert found.change.state == "Done"


def test_a_node_that_has_reported_nothing_yet_has_its_policy_at_once() -> None:
    found = decide(turns({}), CHANGED)
    assert (sharing(found), found.change) == (False, None)


def test_a_node_without_cards_waits_for_nobody() -> None:
    made = turns(reported(LIMITED, cards=0))
    target = effective_policy([CHANGED], node_labels={})
    found = made.decide(target, policies=[CHANGED], turns={}, cards=())
    assert (sharing(found), found.change) == (False, None)


def test_cards_that_are_slow_to_be_found_are_no_reason_to_go_ahead() -> None:
    made = turns()
    target = effective_policy([CHANGED], node_labels={})
    assert sharing(made.decide(target, policies=[CHANGED], turns={}, cards=())) is True


def test_a_new_process_goes_on_with_what_was_in_force_and_asks_anew() -> None:
    change = PolicyChange(number=NOW + 7, state=ChangeState.WAITING, policies=("p",), fields=("sharing",))
    made = turns(reported(LIMITED, change=change))
    found = decide(made, CHANGED, p=NOW + 7)
    assert sharing(found) is True
    assert number(found) == NOW + 8


def test_a_new_process_keeps_the_number_of_what_is_done() -> None:
    change = PolicyChange(number=NOW + 7, state=ChangeState.DONE, policies=("p",), fields=("sharing",))
    found = decide(turns(reported(CHANGED, change=change)), CHANGED)
    assert found.change == change


def test_a_status_of_before_turns_is_what_was_in_force() -> None:
    status = reported(LIMITED)
    assert "policyChange" not in status
    assert sharing(decide(turns(status), CHANGED)) is True


def test_a_status_that_cannot_be_read_holds_nothing_back() -> None:
    status = {**reported(LIMITED), "policy": [{"field": "sharing", "value": "perhaps", "source": "p"}]}
    assert sharing(decide(turns(status), CHANGED)) is False
