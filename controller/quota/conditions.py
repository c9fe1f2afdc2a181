"""What a quota's conditions say: `Counted`, whether claims are counted, and `Exceeded`.

Limits: pure. A condition keeps the time of its last change for as long as its status is the same.
"""

from __future__ import annotations

from datetime import UTC, datetime

from driver.kube.client import JSON
from driver.quota.amounts import Charge, Limits
from driver.quota.ledger import Ledger


def with_conditions(status: JSON, ledger: Ledger, *, now: datetime) -> JSON:
    """The status with the conditions that belong to its books."""
    before = {one.get("type"): one for one in status.get("conditions") or []}
    wanted = (_counted(ledger), _exceeded(ledger))
    made = []
    for condition in wanted:
        old = before.pop(condition["type"], {})
        same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        moment = old["lastTransitionTime"] if same else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made.append({**condition, "lastTransitionTime": moment})
    return {**status, "conditions": [*made, *before.values()]}


def _counted(ledger: Ledger) -> JSON:
    if ledger.version:
        return _condition("Counted", True, "Counted", "The claims of the namespace are counted.")
    return _condition("Counted", False, "NotCountedYet", "The claims of the namespace are not counted yet.")


def _exceeded(ledger: Ledger) -> JSON:
    over = _over(ledger.hard, ledger.used)
    if not over:
        return _condition("Exceeded", False, "WithinLimits", "No more is used than the quota has.")
    told = f"More {', '.join(over)} is used than the quota has: it was made or lowered after claims had been."
    return _condition("Exceeded", True, "MoreUsedThanHard", f"{told} They stay; new ones are refused.")


def _over(hard: Limits, used: Charge) -> list[str]:
    pairs = (
        ("memory", hard.memory_mib, used.memory_mib),
        ("cores", hard.cores, used.cores),
        ("cards", hard.cards, used.cards),
    )
    return [name for name, limit, amount in pairs if limit is not None and amount > limit]


def _condition(kind: str, holds: bool, reason: str, message: str) -> JSON:  # noqa: FBT001 - reads like a row
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}
