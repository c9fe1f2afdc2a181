"""Why not: for claims that get nothing, the first reason against each card of each node, and what would help.

Purpose: what somebody whose pod is pending has to know, about 5,000 nodes in ten lines.

Flow: `why_not` asks the allocator's own judge about each shape of card (`judge`), adds up (`survey`), says
which part of a selector was false and what was seen (`falsehood`, `obstacles`), tries small changes
(`changes`), and gives a `WhyNot` that reads as text or JSON (`answer`). `why_not_on` lists one node's cards.

Limits: no decision is made here; reasons are the allocator's. Nothing of other claims is named.
"""

from driver.allocation.why_not.answer import Change, Ground, Span, Values, WhyNot
from driver.allocation.why_not.node import CardAnswer, why_not_on
from driver.allocation.why_not.reasons import CARD_REASONS, Meaning
from driver.allocation.why_not.why import why_not

__all__ = [
    "CARD_REASONS",
    "CardAnswer",
    "Change",
    "Ground",
    "Meaning",
    "Span",
    "Values",
    "WhyNot",
    "why_not",
    "why_not_on",
]
