"""The verdicts: when a card has a fault, and when that is over.

A fault begins with the first bad news. It ends when nothing has been wrong for a hold-off, which doubles each
time the card relapses, so that a card that comes and goes neither does so in the slices nor draws new pods to
it. Bad news are of two kinds: a *state* that is asked for (over when the answer is good) and a *report* of
something that happened (over when the driver says that nothing needs recovery, or when it was not repeated
for `REPORT_HOLDS_S`).

The fault is named after its first cause; only a graver one renames it. An answer that could not be had is
neither good nor bad: what passes until the next one that could does not count, and what was good before does.

What an agent before this one knew of a card holds until somebody answers for the card, or, where nobody
does, for as long as a missing card is waited for: a driver may list its cards late.

Limits: pure, with times handed in: `now` in seconds of the kernel's monotonic clock, which goes on from one
agent to the next until the node is booted; `at` as text for people. With the constants
below a card that flaps recovers at most seven times in its first hour, and from then on at most once an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from driver.vendors.base import CardFault, CardHealth
from kubelet_plugin.card_health.missing import KEPT_FOR_S

HOLD_OFF_S = 30.0
"""How long nothing may be wrong before a first fault is over."""

LONGEST_HOLD_OFF_S = 3600.0

FORGIVEN_AFTER_S = 4 * 3600.0
"""A card that had no fault for so long is treated as if it had never had one."""

REPORT_HOLDS_S = 1800.0
"""For so long a reported fault counts where the driver cannot say whether it is over."""

BELIEVED_AFTER_S = 5.0
"""A driver may still say that all is well in the moment in which it reports a fault."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A card's fault: why, since when, and whether no work on the card can go on."""

    reason: str
    message: str
    since: str
    certain: bool


@dataclass
class _Report:
    fault: CardFault
    last: float


@dataclass
class _Card:
    answer: CardHealth | None = None
    reports: dict[str, _Report] = field(default_factory=dict)
    verdict: Verdict | None = None
    good_for: float = 0.0
    """How long nothing has been wrong, as far as anybody knew."""
    good_at: float | None = None
    """When it was last looked at, if nothing was wrong then."""
    relapses: int = 0
    recovered_at: float | None = None
    recalled_at: float | None = None
    """When it was recalled, while nobody has answered for it."""


class HealthBook:
    """What is known of all cards' health."""

    def __init__(self) -> None:
        self._cards: dict[str, _Card] = {}

    def answered(self, answers: Iterable[CardHealth]) -> None:
        """Takes the answers about all cards; those without one are forgotten, unless they are waited for."""
        found = {answer.name: answer for answer in answers}
        gone = [name for name, card in self._cards.items() if name not in found and card.recalled_at is None]
        for name in gone:
            del self._cards[name]
        for name, answer in found.items():
            card = self._cards.setdefault(name, _Card())
            card.answer, card.recalled_at = answer, None

    def reported(self, fault: CardFault, *, now: float) -> None:
        """Takes a fault that a driver reported."""
        card = self._cards.setdefault(fault.name, _Card())
        card.reports[fault.reason] = _Report(fault, now)

    def answer(self, name: str) -> CardHealth | None:
        """The last answer about a card."""
        card = self._cards.get(name)
        return card.answer if card else None

    def judge(
        self, *, now: float, at: str, ignored_xids: Mapping[str, frozenset[int]] | None = None
    ) -> dict[str, Verdict]:
        """The cards that have a fault.

        Args:
            now: Monotonic seconds.
            at: The same moment for people: RFC 3339, whole seconds.
            ignored_xids: XIDs that do not count, by card.
        """
        ignored = ignored_xids or {}
        for name, card in list(self._cards.items()):
            if card.recalled_at is not None and now - card.recalled_at >= KEPT_FOR_S:
                del self._cards[name]
        for name, card in self._cards.items():
            _drop_reports(card, now=now, ignored=ignored.get(name, frozenset()))
            _judge(card, now=now, at=at)
        return {name: card.verdict for name, card in self._cards.items() if card.verdict is not None}

    def remembered(self, *, now: float) -> dict[str, Any]:
        """What has to survive a restart, as JSON: the same as before unless something happened."""
        return {
            name: {
                "verdict": None if card.verdict is None else asdict(card.verdict),
                "relapses": card.relapses,
                "recovered": None if card.recovered_at is None else _whole_minutes(card.recovered_at),
                "reports": [
                    {
                        "reason": report.fault.reason,
                        "message": report.fault.message,
                        "certain": report.fault.certain,
                        "xid": report.fault.xid,
                        "at": _whole_minutes(report.last),
                    }
                    for report in card.reports.values()
                ],
            }
            for name, card in self._cards.items()
            if card.verdict is not None or _may_relapse(card, now=now)
        }

    def recall(self, remembered: Mapping[str, Any], *, now: float) -> None:
        """Takes over what an agent before this one remembered.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is not what `remembered` makes.
        """
        for name, kept in remembered.items():
            recovered = kept["recovered"]
            card = _Card(
                verdict=None if kept["verdict"] is None else _verdict(kept["verdict"]),
                relapses=int(kept["relapses"]),
                recovered_at=None if recovered is None else min(now, float(recovered)),
                recalled_at=now,
            )
            for report in kept["reports"]:
                fault = CardFault(
                    name=str(name),
                    reason=str(report["reason"]),
                    message=str(report["message"]),
                    certain=bool(report["certain"]),
                    xid=int(report["xid"]),
                )
                card.reports[fault.reason] = _Report(fault, min(now, float(report["at"])))
            self._cards[str(name)] = card


def _verdict(kept: Mapping[str, Any]) -> Verdict:
    return Verdict(
        reason=str(kept["reason"]),
        message=str(kept["message"]),
        since=str(kept["since"]),
        certain=bool(kept["certain"]),
    )


def _whole_minutes(time_s: float) -> int:
    # A report may be repeated every second, and each other answer here is written to the disk.
    return int(time_s // 60) * 60


def _may_relapse(card: _Card, *, now: float) -> bool:
    return card.recovered_at is not None and now - card.recovered_at < FORGIVEN_AFTER_S


def _drop_reports(card: _Card, *, now: float, ignored: frozenset[int]) -> None:
    cleared = card.answer is not None and card.answer.cleared and card.answer.health == "Healthy"
    for reason, report in list(card.reports.items()):
        age = now - report.last
        if age >= REPORT_HOLDS_S or (cleared and age >= BELIEVED_AFTER_S) or report.fault.xid in ignored:
            del card.reports[reason]


def _judge(card: _Card, *, now: float, at: str) -> None:
    cause = _cause(card)
    if cause is not None:
        card.good_for, card.good_at = 0.0, None
        if card.verdict is None:
            card.relapses = card.relapses + 1 if _may_relapse(card, now=now) else 0
            card.verdict = Verdict(reason=cause[0], message=cause[1], since=at, certain=cause[2])
        elif cause[2] and not card.verdict.certain:
            since = card.verdict.since
            card.verdict = Verdict(reason=cause[0], message=cause[1], since=since, certain=True)
        return
    if card.verdict is None:
        return
    if card.answer is None or (card.answer.health == "Unknown" and card.answer.reason):
        # Nobody said that it is well.
        card.good_at = None
        return
    if card.good_at is not None:
        card.good_for += now - card.good_at
    card.good_at = now
    if card.good_for >= hold_off_s(card.relapses):
        card.verdict, card.good_for, card.good_at, card.recovered_at = None, 0.0, None, now


def hold_off_s(relapses: int) -> float:
    """How long nothing may be wrong after so many relapses."""
    # Bounded first: 2.0 ** 2000 would be an error.
    return min(LONGEST_HOLD_OFF_S, HOLD_OFF_S * 2.0 ** min(relapses, 16))


def _cause(card: _Card) -> tuple[str, str, bool] | None:
    """The gravest of what is wrong now."""
    causes: list[tuple[str, str, bool]] = []
    if card.answer is not None and card.answer.health == "Unhealthy":
        causes.append((card.answer.reason or "Unhealthy", card.answer.message, card.answer.certain))
    causes += [(one.fault.reason, one.fault.message, one.fault.certain) for one in card.reports.values()]
    return next((one for one in causes if one[2]), causes[0] if causes else None)
