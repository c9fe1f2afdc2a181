"""Hands the rules of explaining and allocating over to the command line.

Limits: nothing is decided here; each function puts arguments into the form that its part wants.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from controller.allocating import views as allocating
from controller.allocating.comparing import Comparison
from controller.allocating.pod_fit import Amounts, node_facts, pod_facts
from controller.cli.rules import Question, Rules, Said
from controller.explaining import views as explaining
from controller.explaining.classes import is_ours
from controller.explaining.extended import special_claim
from controller.explaining.shares import remark
from controller.extended import resource_of
from controller.handover import known_release
from driver.cards import DRIVER_NAME
from driver.kube.client import JSON

_PLENTY = Amounts(cpu_nano=1 << 80, memory_bytes=1 << 80, pods=1 << 40)


def rules() -> Rules:
    """The rules of this controller."""
    return Rules(
        is_ours=is_ours,
        held=_held,
        unfit=_unfit,
        extended=_extended,
        remark=_remark,
        release=known_release,
    )


def _held(claim: JSON) -> JSON | None:
    text = allocating.claim_view(claim).held
    found: JSON | None = json.loads(text) if text else None
    return found


def _unfit(pod: JSON, node: JSON) -> str:
    facts = node_facts(node)
    # What other pods take is not known here; what the node has is.
    free = facts.allocatable if facts.allocatable.pods else _PLENTY
    return Comparison(pod_facts(pod)).unfit(str(node["metadata"]["name"]), facts, free)


def _extended(pod: JSON, classes: Sequence[JSON], *, carried: bool) -> JSON | None:
    view = explaining.pod_view({**pod, "spec": {**(pod.get("spec") or {}), "nodeName": ""}})
    if view is None or not view.extended:
        return None
    # kube-scheduler knows a class by its field alone, whatever the webhook carried over.
    named = {str(one["metadata"]["name"]): _class_view(one, carried=carried) for one in classes}

    def ours(name: str) -> bool:
        return named[name].ours if name in named else is_ours({"metadata": {"name": name}})

    text = special_claim(view.extended, classes=named.items(), ours=ours)
    found: JSON | None = json.loads(text) if text else None
    return found


def _class_view(document: JSON, *, carried: bool) -> explaining.ClassView:
    view = explaining.class_view(document)
    return replace(view, extended=resource_of(document)) if carried else view


def _remark(question: Question) -> Said | None:
    found = remark(
        question.snapshot,
        claims=question.claims,
        configs=[_ours((one["spec"].get("devices") or {}).get("config")) for one in question.claims],
        class_configs={
            str(one["metadata"]["name"]): _ours((one.get("spec") or {}).get("config"))
            for one in question.classes
        },
    )
    return None if found is None else Said(reason=found.reason, note=found.note, everywhere=found.everywhere)


def _ours(entries: list[JSON] | None) -> list[JSON]:
    return [one for one in entries or [] if (one.get("opaque") or {}).get("driver") == DRIVER_NAME]
