"""Partitions that the hardware keeps apart: what of a card is offered, and what makes and removes instances.

Purpose: MIG instances and their kin as devices of their own. A vendor that has them implements `Partitioner`;
which of them a node offers beside the whole card is decided by `offer` from the policy and what is there.

Flow: vendor -> cards, and a card-like device for each partition -> `offer` -> slices with shared counters ->
allocation -> prepare -> `driver.isolation.hardware` -> `Partitioner.make` -> CDI edits.

Limits: a card is a row of slots (`driver.places`); hardware that is cut in other ways is not described.
"""
