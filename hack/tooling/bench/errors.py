"""The one error of this package: a sentence that says why nothing was measured."""

from __future__ import annotations


class BenchError(Exception):
    """Something a person can act on; shown without a traceback."""
