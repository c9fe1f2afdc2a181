"""The one error of this package: a sentence that says why nothing could be answered."""

from __future__ import annotations


class ReplayError(Exception):
    """Something a person can act on; shown without a traceback."""


class ReferenceMissingError(ReplayError):
    """Kubernetes' own code cannot be asked here."""
