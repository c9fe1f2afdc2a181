"""Figures that a test tells of its run: they are no verdict, and stand at the end of the output."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]
"""Takes a sentence; what the fixture `tell` gives."""

FIGURE = "figure"
"""The property of a report that holds such a sentence; `tests/conftest.py` prints it."""
