"""Texts that many objects have in common, kept once.

Purpose: ten thousand claims made from a few templates say the same, and so do their pods; and what anybody
may write must not fill the memory of the controller.

Flow: `shared` gives the one object that stands for a text, as long as somebody holds it.

Limits: one pool for the process; equal texts are the same object, so comparing two is comparing identities.
"""

from __future__ import annotations

from weakref import WeakValueDictionary


class SharedText:
    """A text that is kept once.

    Attributes:
        text: The text, as bytes of UTF-8.
    """

    __slots__ = ("__weakref__", "text")

    def __init__(self, text: bytes) -> None:
        """To be called by `shared` alone."""
        self.text = text


_POOL: WeakValueDictionary[bytes, SharedText] = WeakValueDictionary()


def shared(text: bytes) -> SharedText:
    """The object that stands for a text."""
    found = _POOL.get(text)
    if found is None:
        found = _POOL[text] = SharedText(text)
    return found
