"""What is wrong with claims, templates, classes and policies, before they are stored and before they run.

Purpose: what cannot work is refused by name, with the field's path and the remedy, at admission; what an
older server or another way let through is refused at prepare by the same functions, in the same words.

Flow: `driver.validation.validate` looks at an object as a whole and needs to know the cluster's cards and
classes (`driver.validation.facts`); `driver.validation.requests` and `driver.validation.configs` look at what
a claim says by itself, and the agent uses them at prepare.

Limits: nothing is imported here, since agents load neither CEL nor the allocator. Pure, and bounded: see
`driver.validation.limits`.
"""
