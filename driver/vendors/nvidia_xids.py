"""Which of NVIDIA's XIDs say something about the card, and which about the program that ran on it.

Source: NVIDIA's XID catalogue (what each number means and what it recommends), and the numbers that NVIDIA's
own device plugin and DRA driver pass over: 13, 31, 43, 45, 68, 109.

Three kinds, and what is in no table is of the third:

* an application's own: counted and nothing else;
* told by a state as well (rows remapped, pages retired, what the driver wants done): the driver is asked for
  the state every few seconds, and the state knows when it is over, so the event makes that question come at
  once;
* the card's: the card is suspected; of those in `CERTAIN`, NVIDIA says that nothing can go on without a
  reset, a reboot or another card.
"""

from __future__ import annotations

from driver.vendors.base import CardFault

APPLICATION = frozenset({13, 31, 43, 45, 68, 109})
"""Illegal instructions and addresses, channels torn down, a decoder fed nonsense, a context switch held up:
the program ends, the card is as good as before."""

TOLD_BY_STATE = frozenset({63, 92, 94, 154})
"""A row remapping or page retirement was recorded; many single-bit errors; an uncorrectable error was
contained; what the driver asks for (a reset, a drain, nothing any more) is another by now."""

CERTAIN = frozenset({48, 62, 64, 79, 95, 119, 120, 140, 143})

_MEANINGS = {
    48: "an uncorrectable (double-bit) memory error",
    62: "the card's internal controller halted",
    64: "memory could not be repaired by remapping a row or retiring a page",
    74: "an NVLink error",
    79: "the card has fallen off the bus",
    95: "an uncorrectable memory error that was not contained",
    119: "the GSP did not answer in time",
    120: "the GSP reported an error",
    140: "an uncorrectable memory error that was not recovered from",
    143: "the card could not be initialised",
}


def fault_of(xid: int, *, name: str) -> CardFault | None:
    """What an XID says of a card; None if the card's state has to be asked for.

    Args:
        xid: The number, as the driver gave it.
        name: The card.
    """
    if xid in TOLD_BY_STATE:
        return None
    meaning = _MEANINGS.get(xid)
    return CardFault(
        name=name,
        reason=f"Xid{xid}",
        message=f"The driver reported XID {xid}" + (f": {meaning}." if meaning else "."),
        certain=xid in CERTAIN,
        xid=xid,
        of_application=xid in APPLICATION,
    )
