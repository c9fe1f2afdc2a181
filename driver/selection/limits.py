"""What one selector, or one fleet of devices, may cost an index.

Purpose: a selector of somebody hostile costs bounded time and memory.

Flow: each limit is read where the thing it bounds is made; beyond it there is a slower way to the same
answer, except for `MAX_UNITS`, beyond which the devices that are left count as raising.

Limits: figures are chosen for some 100,000 devices.
"""

# Columns that are kept; API limits let a device have 32 attributes and capacities.
MAX_COLUMNS = 64
# Answers of parts of selectors that are kept; two bitmaps each.
MAX_ANSWERS = 512
# Whole selectors whose plan and last answer are kept.
MAX_KEPT = 256
# Characters of the selectors that either of these come from; what is kept takes up to 300 bytes for each.
MAX_TEXT = 1 << 17
# Distinct values up to which the outcome for each is kept, so that after a change only new values are tried.
MAX_OUTCOMES = 256
# Combinations of the values of several columns that are tried, and the steps to find those that occur.
MAX_COMBINATIONS = 256
MAX_SPLITS = 4096
# Computed values of `cel.bind` up to which the parts of the body are answered one by one.
MAX_COMPUTED = 3
# What all evaluations of one selection may cost together, in the evaluator's units.
MAX_UNITS = 20_000_000
# More than the lookups of a selector of 10 KiB would cost, were they evaluated.
MAX_LOOKUP_COST = 100_000
# Units above which an answer is mended after a change rather than worked out anew.
MUCH = 10_000
# Instructions of regular expressions from which on their time is counted, and the evaluator's units that one
# of them takes at worst: the reference's costs know the length of a pattern only, not what it repeats.
LARGE_PATTERN = 500
PATTERN_UNITS = 6
