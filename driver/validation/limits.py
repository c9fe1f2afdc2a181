"""What one validation may cost.

Purpose: an object of somebody hostile costs bounded time and memory, whatever it holds.

Limits: the figures are chosen for what the API server stores at most, 1.5 MiB.
"""

MAX_FINDINGS = 16
"""Errors, and warnings, that are told of one object."""
MAX_WARNING = 256
"""Characters of a warning; API servers cut what is longer."""
