"""Why a pod or a claim waits, or what it holds, as one document.

Flow: the subject, and the cluster if the person may see it -> `explanation` -> a JSON document. Each claim is
in one state (`claim_states`); if some wait for cards of ours, the allocator is asked about them together, as
for the real thing.

Limits: pure. Without the right to read the whole cluster nothing is computed: what the controller said last
is the answer then, and the missing rights are named. Names from other namespaces come from such rights alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.cli.claim_states import ClaimState, claim_state, extended_state
from controller.cli.facts import CONTROLLER, Facts
from controller.cli.objects import Subject
from controller.cli.question import Classes, answer_of
from controller.cli.rules import Rules
from controller.cli.world import world_of
from driver.kube.client import JSON

_DONE = ("Succeeded", "Failed")


def explanation(subject: Subject, facts: Facts, rules: Rules, *, everything: bool = False) -> JSON:
    """Explains a pod or a claim.

    Args:
        subject: What was asked about.
        facts: The cluster, as far as it may be seen.
        rules: What other parts know.
        everything: List every card.
    """
    classes = Classes(facts.classes, rules)
    claims = [claim_state(one, subject, facts, classes) for one in subject.entries]
    if subject.kind == "Pod" and subject.pod is not None and not _on_node(subject.pod):
        special = None
        if facts.needed:
            special = rules.extended(subject.pod, facts.classes, carried=facts.names_carried)
        if special is not None and not any(one.entry.entry == "" for one in claims):
            claims.append(extended_state(special, subject, facts))
    waiting = [one for one in claims if one.question is not None]
    answer = None
    if waiting and facts.needed and _may_wait(subject):
        answer = _answer(subject, facts, rules, claims, everything=everything)
    state, words = _state(subject, claims, answer, facts)
    return {
        "kind": subject.kind,
        "namespace": subject.namespace,
        "name": subject.name,
        "state": state,
        "words": words,
        "node": _node(subject),
        "mode": facts.mode if facts.needed else "",
        "usedBy": None if subject.users is None else list(subject.users),
        "claims": [one.to_json(facts) for one in claims],
        "answer": answer,
        "computed": answer is not None,
        "events": list(subject.events),
        "missingRights": list(facts.missing),
        "neededRights": list(facts.lacking),
    }


def _answer(
    subject: Subject, facts: Facts, rules: Rules, claims: Sequence[ClaimState], *, everything: bool
) -> JSON:
    world = world_of(facts, rules)
    pinned = [node for one in claims for node in one.pinned]
    nodes, left = world.for_pod(subject.pod, pinned=pinned)
    questions = [one.question for one in claims if one.question is not None]
    return answer_of(world, questions, nodes, everything=everything, left_out=left)


def _may_wait(subject: Subject) -> bool:
    pod = subject.pod
    if subject.kind == "Pod" and pod is not None:
        return not _on_node(pod) and not _gone(pod)
    return True


def _state(
    subject: Subject, claims: Sequence[ClaimState], answer: JSON | None, facts: Facts
) -> tuple[str, str]:
    who = f"{'Pod' if subject.kind == 'Pod' else 'Claim'} {subject.namespace}/{subject.name}"
    if subject.kind == "Pod" and subject.pod is not None:
        found = _of_pod(who, subject.pod, claims, answer, seen=facts.needed)
        if found is not None:
            return found
    stuck = [one for one in claims if one.state not in ("Allocated", "OtherDriver", "Waiting", "Unknown")]
    if stuck:
        label = stuck[0].entry.name or stuck[0].entry.entry
        named = f"claim {label}: " if label else ""
        return stuck[0].state, f"{who} cannot get its cards: {named}{stuck[0].words}"
    if all(one.state == "OtherDriver" for one in claims):
        return "OtherDriver", f"{who} asks for nothing of ours."
    if all(one.state in ("Allocated", "OtherDriver") for one in claims):
        if subject.kind == "Pod":
            waits = f"{who} waits, but not for a card: its claims are allocated."
            return "Allocated", f"{waits} {_scheduler(subject)}".rstrip()
        return "Allocated", f"{who} is allocated."
    if answer is None:
        why = "" if facts.needed else " Why is not computed: that takes the right to read the whole cluster."
        return "Waiting", f"{who} waits.{why}"
    return _answered(who, answer, subject, facts)


def _of_pod(
    who: str, pod: JSON, claims: Sequence[ClaimState], answer: JSON | None, *, seen: bool
) -> tuple[str, str] | None:
    """What its own state says of a pod; None where its claims say more."""
    phase = str((pod.get("status") or {}).get("phase") or "Pending")
    if phase in _DONE:
        return phase, f"{who} is over ({phase}): it holds nothing any more."
    if _gone(pod):
        return "Deleting", f"{who} is being deleted."
    if not claims and not seen and phase == "Pending" and _extended(pod):
        return "Unknown", (
            f"{who} names no ResourceClaims. Whether the extended resources that it asks for "
            f"({', '.join(_extended(pod))}) stand for cards cannot be seen."
        )
    if not claims:
        what = "waits for" if phase == "Pending" else "runs with"
        return "NoClaims", (
            f"{who} names no ResourceClaims and no extended resources of ours, so no card is what it {what}."
        )
    if _on_node(pod):
        return _placed(who, phase, str(pod["spec"]["nodeName"]), claims)
    gates = [str(one.get("name")) for one in (pod.get("spec") or {}).get("schedulingGates") or []]
    if gates:
        return "Gated", (
            f"{who} is held by the scheduling gate {', '.join(gates)}: nobody allocates for it until whoever "
            f"set the gate takes it away.{_if_it_were(answer)}"
        )
    return None


def _answered(who: str, answer: JSON, subject: Subject, facts: Facts) -> tuple[str, str]:
    unused = subject.kind == "ResourceClaim" and subject.users is not None and not subject.users
    more = " No pod uses it yet; it is allocated when one does." if unused else ""
    said = answer["shareConfig"]
    if said is not None and said["everywhere"]:
        return said["reason"], f"{who} cannot run anywhere: {said['message']}{more}"
    if answer["fits"]:
        where = f"{answer['fits']:,} of {answer['nodes']:,} nodes (for example {answer['example']})"
        who_acts = (
            "The controller allocates within seconds; if it does not, look at its log."
            if facts.mode == CONTROLLER
            else "If it goes on waiting, the reason is something else."
        )
        note = f" {said['message']}" if said is not None else ""
        told = f"{who}: cards are not the reason, those of {where} would do. {who_acts}{note}{more}"
        return "CardsAvailable", f"{told} {_scheduler(subject)}".rstrip()
    return answer["reason"] or "Waiting", f"{who} waits: {answer['headline']}{more}"


def _placed(who: str, phase: str, node: str, claims: Sequence[ClaimState]) -> tuple[str, str]:
    holding = [one for one in claims if one.shares]
    if not holding:
        return phase, f"{who} is {phase} on node {node} and holds no card of ours."
    if phase == "Running":
        return phase, f"{who} is Running on node {node} and holds:"
    return (
        phase,
        f"{who} is {phase} on node {node}. Its cards are allocated; what the node says stands below.",
    )


def _scheduler(subject: Subject) -> str:
    found = next((one for one in subject.events if one["by"] == "default-scheduler"), None)
    return f"kube-scheduler said last: {found['note']}" if found is not None else ""


def _if_it_were(answer: JSON | None) -> str:
    if answer is None:
        return ""
    return " Without it, " + (
        f"the cards of {answer['fits']:,} of {answer['nodes']:,} nodes would do now (for example "
        f"{answer['example']})."
        if answer["fits"]
        else f"it would wait: {answer['headline']}"
    )


def _extended(pod: JSON) -> list[str]:
    """Names of the extended resources that a pod asks for."""
    spec = pod.get("spec") or {}
    asked = [
        name
        for one in (*(spec.get("initContainers") or []), *(spec.get("containers") or []))
        for name in (one.get("resources") or {}).get("requests") or {}
        if "/" in name
    ]
    return list(dict.fromkeys(asked))[:4]


def _on_node(pod: JSON) -> bool:
    return bool((pod.get("spec") or {}).get("nodeName"))


def _gone(pod: JSON) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in _DONE or bool(pod["metadata"].get("deletionTimestamp"))


def _node(subject: Subject) -> str:
    if subject.kind != "Pod" or subject.pod is None:
        return ""
    return str((subject.pod.get("spec") or {}).get("nodeName") or "")
