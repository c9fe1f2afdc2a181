"""Selectors: whether they compile on the server's release, and whether they hold for any card.

Flow: `Selectors` belongs to one validation. `compiled` gives a selector or notes why there is none; `pick`
narrows a set of cards down by one selector after the other, as kube-scheduler does, and says which of them
left nothing.

Rules:

* what does not compile is an error, with the column, by the rules for new objects of the release;
* `device.allowMultipleAllocations` exists only where DRAConsumableCapacity is on, which is from 1.36;
* what holds for no card is a warning, since cards may come; if it reads what no card has, the nearest name is
  in it;
* what raises on a card is a warning too: kube-scheduler gives up the whole allocation when it meets the card.

Limits: see `driver.validation.limits`: of very long or very costly selectors nothing is said but by the API
server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from driver.allocation.why_not.falsehood import explained
from driver.cel import Selector, SelectorNotSupportedError, compile_selector
from driver.cel.errors import InvalidSelectorError, PositionedSelectorError
from driver.cel.syntax import Comprehension, Ident, Node, Select, children
from driver.selection.reads import ROOT, reads_of
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.limits import MAX_COMPILED, MAX_EXHAUSTED, MAX_JUDGED

_SHARING_FIELD = "allowMultipleAllocations"
_FIRST_WITH_SHARING = (1, 36)
_MAX_EXPLAINED = 500
_REMEDY = "Write an expression of CEL that is true or false for a device."


@dataclass(frozen=True, kw_only=True)
class Picked:
    """The cards that selectors leave.

    Attributes:
        cards: As a bitmap; None where nobody can say.
        field: Path of the selector that left none; "" if some are left.
        sentence: Why it left none.
    """

    cards: int | None
    field: str = ""
    sentence: str = ""


class Selectors:
    """The selectors of one object.

    Args:
        facts: The cluster.
        notes: Where to note what is wrong.
        clock: Seconds of processor time; nothing depends on it but for objects that take long.
    """

    def __init__(
        self, facts: ClusterFacts, notes: Notes, *, clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._facts = facts
        self._notes = notes
        self._compiled: dict[str, Selector | PositionedSelectorError | None] = {}
        self._judged: set[str] = set()
        self._compile_left = MAX_COMPILED
        self._judge_left = MAX_JUDGED
        self._exhausted = 0
        self._clock = clock
        self._end = clock() + facts.seconds

    def compiled(self, expression: str, *, field: str) -> Selector | None:
        """The selector; None if there is none, which is noted where it is the author's mistake."""
        found = self._outcome(expression)
        if isinstance(found, PositionedSelectorError):
            if isinstance(found, SelectorNotSupportedError) and self._facts.native:
                self._notes.warn(f"Dragoman cannot look into this selector: {found.message}.", field=field)
            else:
                remedy = found.remedy or _REMEDY
                self._notes.refuse(type(found)(f"{found.message}.", field=field, remedy=remedy))
            return None
        return found

    def of_class(self, expressions: Sequence[str]) -> int | None:
        """The cards for which all of a stored class's selectors are true; None where nobody can say."""
        cards = self._facts.cards.every
        for expression in expressions:
            found = self._outcome(expression, stored=True)
            if not isinstance(found, Selector) or not self._may_judge(expression):
                return None
            selection = self._facts.cards.select(found)
            if selection.exhausted:
                self._exhausted += 1
                return None
            cards &= selection.true
        return cards

    def pick(self, cards: int, selectors: Sequence[tuple[str, Selector]]) -> Picked:
        """The cards that selectors leave of some.

        Args:
            cards: The cards to choose among, not none.
            selectors: Each with its field.
        """
        for field, selector in selectors:
            if not self._may_judge(selector.expression):
                return Picked(cards=None)
            selection = self._facts.cards.select(selector)
            if selection.exhausted:
                self._exhausted += 1
                return Picked(cards=None)
            left = cards & selection.true
            if not left:
                return Picked(
                    cards=0, field=field, sentence=self._why_none(selector, cards, selection.raises)
                )
            failing = (cards & selection.raises).bit_count()
            if failing:
                self._notes.warn(
                    f"This fails on {failing} of the {cards.bit_count()} cards that it is asked about, which "
                    f"ends the whole allocation. {self._cause(selector, cards & selection.raises)}",
                    field=field,
                )
            cards = left
        return Picked(cards=cards)

    def _outcome(self, expression: str, *, stored: bool = False) -> Selector | PositionedSelectorError | None:
        key = f"{stored}{expression}"
        if key not in self._compiled:
            if self._compile_left < len(expression) or self._clock() > self._end:
                return None
            self._compile_left -= len(expression)
            self._compiled[key] = self._compile(expression, stored=stored)
        return self._compiled[key]

    def _compile(self, expression: str, *, stored: bool) -> Selector | PositionedSelectorError:
        try:
            found = compile_selector(expression, release=self._facts.language, stored=stored)
        except PositionedSelectorError as invalid:
            return invalid
        return self._sharing_unknown(found) or found

    def _sharing_unknown(self, selector: Selector) -> InvalidSelectorError | None:
        if _SHARING_FIELD not in selector.expression:
            return None
        if self._facts.version >= _FIRST_WITH_SHARING and self._facts.amounts_kept is not False:
            return None
        for node in _nodes(selector.checked.tree):
            if isinstance(node, Select) and node.field == _SHARING_FIELD and _is_device(node.operand):
                return InvalidSelectorError(
                    f"device.{_SHARING_FIELD} is not known to this API server, which is Kubernetes "
                    f"{'.'.join(map(str, self._facts.version))} with DRAConsumableCapacity off",
                    source=selector.expression,
                    position=node.position,
                    remedy="Leave it out: the allocator knows which cards can be shared.",
                )
        return None

    def _may_judge(self, expression: str) -> bool:
        if self._exhausted >= MAX_EXHAUSTED or self._clock() > self._end:
            return False
        if expression not in self._judged:
            if self._judge_left < len(expression):
                return False
            self._judge_left -= len(expression)
            self._judged.add(expression)
        return True

    def _why_none(self, selector: Selector, cards: int, raises: int) -> str:
        absent = self._absent(selector)
        if absent:
            return absent
        number = cards.bit_count()
        verb = "Fails on" if raises & cards == cards else "Is false for"
        those = f"all {number} cards" if number > 1 else "the one card"
        return f"{verb} {those} that it is asked about. {self._cause(selector, cards)}".rstrip()

    def _absent(self, selector: Selector) -> str:
        known = self._facts.cards
        for path in sorted(reads_of(selector.checked.tree, ROOT) or ()):
            if len(path) != 3 or known.has(*path):
                continue
            source, domain, name = path
            what = "attribute" if source == "attributes" else "capacity"
            near = known.meant(source, domain, name)
            return f"No card of this cluster has the {what} {domain}/{name}. {near}".rstrip()
        return ""

    def _cause(self, selector: Selector, cards: int) -> str:
        tree = selector.checked.tree
        # Whatever loops may cost much, and this looks at parts one by one.
        if len(selector.expression) > _MAX_EXPLAINED or any(
            isinstance(node, Comprehension) for node in _nodes(tree)
        ):
            return ""
        found = explained(selector.expression, self._facts.cards.view(cards), release=self._facts.language)
        if found is None:
            return ""
        seen = ", ".join(f"{one.name} is {one.value}" for one in found.seen)
        if found.error:
            return f"On one of them: {found.error}."
        return f"{found.text} is false where {seen}." if seen else ""


def _nodes(tree: Node) -> Iterator[Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


def _is_device(node: Node) -> bool:
    return isinstance(node, Ident) and node.name.removeprefix(".") == "device"
