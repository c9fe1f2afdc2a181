"""Figures, measured on the machine at hand: `hack/bench`.

Flow: a command (`prepare`, `start`, `pods`) brings up what it needs, measures in rounds that alternate
between what is compared, makes `figures` of the times, and prints tables and writes JSON.

Limits: a figure holds for the machine and the moment that are printed with it; what counts is the ratio of
what ran side by side.
"""
