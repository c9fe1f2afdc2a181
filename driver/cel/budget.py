"""What an expression may take.

Purpose: an expression of somebody hostile ends after a bounded number of steps, and needs a bounded stack.

Flow: the tokenizer, the parser and the frames of evaluations read these.

Limits: the same as those of the reference: the API's for the length, cel-go's for the depth, the
scheduler's for the cost of evaluating once. That for regular expressions is our own: RE2 takes half a
microsecond for an instruction, and an expression can hold hundreds of patterns of 120,000.
"""

from __future__ import annotations

MAX_SOURCE_BYTES = 10 * 1024
MAX_DEPTH = 250
MAX_COST = 1_000_000
MAX_PATTERN_INSTRUCTIONS = 1_000_000
