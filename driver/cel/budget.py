"""What an expression may take.

Purpose: an expression of somebody hostile ends after a bounded number of steps, and needs a bounded stack.

Flow: the tokenizer, the parser and the frames of evaluations read these.

Limits: the same as those of the reference: the API's for the length, cel-go's for the depth, the
scheduler's for the cost of evaluating once.
"""

from __future__ import annotations

MAX_SOURCE_BYTES = 10 * 1024
MAX_DEPTH = 250
MAX_COST = 1_000_000
