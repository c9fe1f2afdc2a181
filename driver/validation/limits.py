"""What one validation may cost.

Purpose: an object of somebody hostile costs bounded time and memory, whatever it holds.

Limits: the figures are chosen for what the API server stores at most, 1.5 MiB, and measured on such objects:
ten KiB of a selector take 35 ms to compile, a million units of an evaluation a third of a second.
"""

MAX_FINDINGS = 16
"""Errors, and warnings, that are told of one object."""
MAX_WARNING = 256
"""Characters of a warning; API servers cut what is longer."""
MAX_FIELD = 512
MAX_MESSAGE = 1024
"""Characters of an error's field and message, which may repeat somebody's text."""

MAX_REQUESTS = 32
MAX_SUB_REQUESTS = 8
MAX_CONSTRAINTS = 32
MAX_CONFIGS = 32
MAX_SELECTORS = 32
MAX_NAMES = 32
MAX_AMOUNTS = 32
MAX_PARAMETERS = 10 * 1024
"""Entries of lists, and bytes of opaque parameters, that the API allows (1.34 to 1.37)."""
MAX_DEVICES = 32
"""Devices that one claim can be given (kube-scheduler's allocator, 1.34 to 1.37)."""

MAX_COMPILED = 128 * 1024
"""Characters of different selectors that are compiled for one object; the API server compiles the others."""
MAX_JUDGED = 32 * 1024
"""Characters of different selectors that are held against the cluster's cards for one object."""
MAX_UNITS = 100_000
"""Units of the evaluator that one selector may take over all cards."""
MAX_EXHAUSTED = 1
"""Selectors that may take more, until no further one is held against the cards."""
MAX_SECONDS = 0.05
"""Processor time after which no further selector is compiled, or held against the cards, for one object."""
MAX_POLICY_CARDS = 4096
"""Overrides of single cards that are looked at in a policy."""
