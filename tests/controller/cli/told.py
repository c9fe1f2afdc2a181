"""What the controller says of a pod, worked out by its own code from the objects of a world.

Flow: `told` reads the world as the command line does, asks for the pod `train`, and gives reason and note of
the Event that the controller writes: by the code of explaining in mode native, and of telling in mode
controller.
"""

from __future__ import annotations

import asyncio

from controller.cli.facts import CONTROLLER, read_facts
from controller.cli.objects import look_at
from controller.cli.question import Classes, Kind, asked
from controller.cli.reading import Reading
from controller.cli.world import world_of
from controller.events import cut
from controller.explaining.answers import Configs, answer, note_of
from controller.kubectl_rules import rules
from driver.allocation.why_not import why_not
from driver.errors import DragomanError
from driver.kube.client import JSON, KubeClient
from tests.controller.cli.world import World
from tests.support.scripted_api import ScriptedTransport


def told(world: World) -> tuple[str, str]:
    """Reason and note of the controller's Event; "" if it has none to write."""
    return asyncio.run(_told(world))


async def _told(world: World) -> tuple[str, str]:
    reading = Reading(KubeClient(ScriptedTransport(world.answer)))
    facts = await read_facts(reading)
    subject = await look_at(reading, "Pod", "train", namespace="team-a")
    known = rules()
    classes = Classes(facts.classes, known)
    waiting = [one.claim for one in subject.entries if one.claim and not one.claim.get("status")]
    ours = [one for one in waiting if classes.kind_of(one) is Kind.OURS]
    if not ours:
        return "", ""
    try:
        questions = [asked(one, classes, facts=facts, stored=True) for one in ours]
    except DragomanError as error:
        return error.reason, cut(str(error))
    seen = world_of(facts, known)
    nodes, left = seen.for_pod(subject.pod)
    claims = [
        {**one, "metadata": {"namespace": "pod", "name": f"claim-{number}"}}
        for number, one in enumerate(questions, 1)
    ]
    if facts.mode == CONTROLLER:
        if not nodes:
            reasons = "; ".join(
                f"{len(one.nodes)}: {one.message}" for one in left if one.reason == "NodeUnfit"
            )
            if not reasons:
                return "NoNode", "No node offers cards at this time."
            return "NoNode", f"No node that offers cards may be used by the pod ({reasons})."
        found = why_not(seen.snapshot, claims=claims, nodes=nodes, release=seen.release)
        return found.reason, cut(note_of(found, single=len(claims) == 1))
    said = answer(
        seen.snapshot,
        nodes=seen.nodes,
        claims=claims,
        configs=Configs(
            claims=[_config(one["spec"]["devices"]) for one in questions],
            classes={one["metadata"]["name"]: _config(one["spec"]) for one in facts.classes},
        ),
    )
    return said.reason, said.note


def _config(spec: JSON) -> list[JSON]:
    return [
        one for one in spec.get("config") or [] if (one.get("opaque") or {}).get("driver") == "dragoman.dev"
    ]
