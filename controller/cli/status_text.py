"""The cluster's state for a person.

Limits: at most `ROWS` nodes, those with trouble first, `NOTICES` faulty cards and as many notices, unless all
are wanted.
"""

from __future__ import annotations

from controller.cli.screen import Screen, count
from driver.kube.client import JSON

ROWS = 20
NOTICES = 8
_NAMES = 4
_ROOM_FOR_BARS = 100


def show(document: JSON, screen: Screen, *, everything: bool) -> None:
    """Writes a document of `status_of`."""
    mode, totals = document["mode"], document["totals"]
    seen = {"none": "nobody allocates yet", "handover": "handover"}.get(mode["seen"], mode["seen"])
    kubernetes = document["kubernetes"]
    rows = [
        ("Mode", f"{seen}: {mode['words']}"),
        ("Kubernetes", f"{kubernetes['version'] or 'not known'}. {kubernetes['note']}".rstrip()),
    ]
    if document["controllers"] is not None:
        ready, found = sum(one["ready"] for one in document["controllers"]), len(document["controllers"])
        rows.append(("Controllers", f"{ready} of {found} Ready" if found else "none found: is it installed?"))
    if document["agents"] is not None:
        rows.append(("Agents", f"{document['agents']['ready']} of {document['agents']['pods']} Ready"))
    cards = f"{totals['offered']:,} of {totals['cards']:,} offered on {count(totals['nodes'], 'node')}"
    faulty = f", {totals['faulty']:,} faulty" if totals["faulty"] else ""
    rows.append(("Cards", f"{cards}, held by {count(totals['claims'], 'claim')}{faulty}"))
    screen.pairs(rows)
    if mode["waitsFor"]:
        screen.heading("The handover waits for")
        for text in mode["waitsFor"]:
            screen.line(text, indent=2)
    _rollouts(document["rollouts"], screen, everything=everything)
    if totals["offered"]:
        _totals(totals, screen)
    _nodes(document["nodes"], screen, everything=everything)
    _faults(document["nodes"], screen, everything=everything)
    _notices(document["notices"], screen, everything=everything)
    if document["missingRights"]:
        screen.heading("Not everything could be read")
        for right in document["missingRights"]:
            screen.line(f"You lack the right to {right}.", indent=2)


def _rollouts(policies: list[JSON], screen: Screen, *, everything: bool) -> None:
    found = [one for one in policies if not one["done"]]
    if not found:
        return
    screen.heading("Policies that are not on all nodes yet")
    shown = found if everything else found[:NOTICES]
    for one in shown:
        words = f"{one['reason']}: {one['message']}"
        screen.line(f"{one['policy']} (maxUnavailable {one['maxUnavailable']}): {words}", indent=2)
    if len(shown) < len(found):
        screen.line(f"and {len(found) - len(shown):,} more (--all shows them)", indent=2)


def _totals(totals: JSON, screen: Screen) -> None:
    memory, cores = totals["memory"], totals["cores"]
    rows = [
        (
            "memory",
            screen.bar(memory["usedBytes"], memory["totalBytes"]),
            _amount(memory["usedBytes"]),
            _amount(memory["totalBytes"] - memory["usedBytes"]),
            _amount(memory["totalBytes"]),
        ),
        (
            "cores",
            screen.bar(cores["usedPercent"], cores["totalPercent"]),
            f"{cores['usedPercent']:,} %",
            f"{cores['totalPercent'] - cores['usedPercent']:,} %",
            f"{cores['totalPercent']:,} %",
        ),
    ]
    sentences = [f"{row[0]}: {row[2]} used, {row[3]} free" for row in rows]
    screen.line()
    screen.table(("", "", "USED", "FREE", "ALL"), rows, otherwise=sentences)


def _nodes(nodes: list[JSON], screen: Screen, *, everything: bool) -> None:
    if not nodes:
        screen.line()
        screen.line("No node has an agent that has reported cards yet (AcceleratorNodes: none).")
        return
    ordered = sorted(nodes, key=lambda one: (not _troubled(one), one["name"]))
    shown = ordered if everything else ordered[:ROWS]
    screen.line()
    rows: list[tuple[str, ...]] = [
        (
            one["name"],
            {True: "Ready", False: "not Ready", None: "?"}[one["agent"]["ready"]],
            _condition(one),
            _cards(one),
            f"{_amount(one['memory']['usedBytes'])} of {_amount(one['memory']['totalBytes'])}",
            screen.bar(one["memory"]["usedBytes"], one["memory"]["totalBytes"]),
            f"{one['cores']['usedPercent']} of {one['cores']['totalPercent']} %",
        )
        for one in shown
    ]
    columns: tuple[str, ...] = ("NODE", "AGENT", "PUBLISHED", "CARDS", "MEMORY USED", "", "CORES USED")
    if screen.width < _ROOM_FOR_BARS:
        columns, rows = _without_bars(columns), [_without_bars(row) for row in rows]
    sentences = [
        f"{row[0]}: agent {row[1]}, published: {row[2]}, cards {row[3]}, memory {row[4]}, cores {row[-1]}"
        for row in rows
    ]
    screen.table(columns, rows, otherwise=sentences)
    if len(shown) < len(ordered):
        rest = ordered[len(shown) :]
        trouble = sum(map(_troubled, rest))
        with_trouble = f", {trouble:,} of them with notices" if trouble else ""
        screen.line(f"and {count(len(rest), 'more node')}{with_trouble} (--all shows them)")


def _cards(one: JSON) -> str:
    offered, cards, faulty = one["offered"], one["cards"], len(one["faults"])
    text = f"{offered}" if offered == cards else f"{offered} of {cards}"
    return f"{text}, {faulty} faulty" if faulty else text


def _faults(nodes: list[JSON], screen: Screen, *, everything: bool) -> None:
    found = [(one["name"], fault) for one in nodes for fault in one["faults"]]
    if not found:
        return
    screen.heading("Faulty cards")
    shown = found if everything else found[:NOTICES]
    for node, fault in shown:
        since = f" since {fault['since']}" if fault["since"] else ""
        screen.line(f"{node} {fault['card']}: {fault['reason']}{since}: {fault['message']}", indent=2)
    if len(shown) < len(found):
        screen.line(f"and {count(len(found) - len(shown), 'more card')} (--all shows them)", indent=2)


def _without_bars(row: tuple[str, ...]) -> tuple[str, ...]:
    return (*row[:5], *row[6:])


def _notices(notices: list[JSON], screen: Screen, *, everything: bool) -> None:
    if not notices:
        return
    screen.heading("Notices")
    shown = notices if everything else notices[:NOTICES]
    for one in shown:
        names = one["nodes"] if everything else one["nodes"][:_NAMES]
        more = len(one["nodes"]) - len(names)
        where = ", ".join(names) + (f" and {more:,} more" if more else "")
        screen.line(f"{one['reason']} ({where}): {one['message']}", indent=2)
    if len(shown) < len(notices):
        screen.line(f"and {count(len(notices) - len(shown), 'more notice')} (--all shows them)", indent=2)


def _condition(one: JSON) -> str:
    said = one["published"]
    return "yes" if (said["status"], said["reason"]) == ("True", "Published") else str(said["reason"])


def _amount(amount: int) -> str:
    """Bytes as a person reads them: 117.2 TiB."""
    size, unit = float(abs(amount)), "MiB"
    size /= 1 << 20
    for larger in ("GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    if not amount:
        return "0"
    text = f"{size:.1f}".removesuffix(".0")
    return f"{'-' if amount < 0 else ''}{text} {unit}"


def _troubled(one: JSON) -> bool:
    trouble = one["problems"] or one["faults"]
    return _condition(one) != "yes" or one["agent"]["ready"] is False or bool(trouble)
