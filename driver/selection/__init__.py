"""The index over devices: a selector's answer for a whole cluster in microseconds.

Purpose: selectors read a few attributes, and these have few distinct values; so nearly all that evaluating a
selector on each of 80,000 devices computes, it computes thousands of times.

Flow: `Index.add` the devices of each slice; `Index.select` gives a `Selection`, two bitmaps; `Index.remove`
when a slice changes.

Limits: the answer is that of evaluating on each device, errors included, but for selectors that cost too much
over all devices together: see `driver.selection.index`.
"""

from driver.selection.index import Index, Selection
from driver.selection.numbers import Slots

__all__ = ["Index", "Selection", "Slots"]
