"""What a manifest would get, for a person.

Limits: `STEPS` pods unless all are wanted, refused ones always; the first `REASONED` with all their reasons.
"""

from __future__ import annotations

from controller.cli.explain_text import show_answer
from controller.cli.screen import Screen
from driver.kube.client import JSON

STEPS = 40
REASONED = 3


def show(document: JSON, screen: Screen, *, everything: bool) -> None:
    """Writes a document of `simulation`."""
    fits = document["decided"] - document["refused"]
    mode = {"native": "kube-scheduler", "controller": "the controller"}.get(document["mode"], "nobody yet")
    head = "All of it fits now" if document["fits"] else f"{fits} of {document['decided']} fit now"
    screen.line(f"{head} (allocated by {mode}; nothing was created).")
    if document["passedOver"]:
        screen.line(f"Passed over: {', '.join(document['passedOver'])}.")
    shown = hidden = reasoned = 0
    for one in document["steps"]:
        refused = one["outcome"] == "Refused"
        if shown >= STEPS and not refused and not everything:
            hidden += 1
            continue
        shown += 1
        _step(one, screen)
        if refused and one["answer"] is not None:
            if everything or reasoned < REASONED:
                show_answer(one["answer"], screen, everything=everything, indent=2)
            reasoned += 1
    if hidden:
        screen.heading(f"and {hidden:,} more that fit (--all shows them)")
    if document["missingRights"]:
        screen.heading("Not everything could be read")
        for right in document["missingRights"]:
            screen.line(f"You lack the right to {right}.", indent=2)


def _step(one: JSON, screen: Screen) -> None:
    who = f"{one['number']}. {one['kind'].lower().replace('resource', '')}/{one['name']} ({one['namespace']})"
    if one["outcome"] == "Fits":
        more = f", one of {one['nodes']:,} nodes that would do" if one["nodes"] > 1 else ""
        screen.heading(f"{who}: fits on {one['node']}{more}")
    elif one["outcome"] == "Refused":
        screen.heading(f"{who}: does not fit ({one['reason']})")
        screen.line(one["words"], indent=2)
    else:
        screen.heading(f"{who}: needs nothing of ours")
        screen.line(one["words"], indent=2)
    for note in one["notes"]:
        screen.line(note, indent=2)
    if one.get("shares"):
        rows = [
            (
                each["claim"].partition("/")[2],
                each["request"],
                " ".join(filter(None, (each["card"], f"({each['model']})" if each["model"] else ""))),
                each["words"],
            )
            for each in one["shares"]
        ]
        sentences = [f"{row[0]}, {row[1]}: {row[2]}: {row[3]}" for row in rows]
        screen.table(("CLAIM", "REQUEST", "CARD", "SHARE"), rows, indent=2, otherwise=sentences)
