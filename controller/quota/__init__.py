"""Quotas: claims are held against the AcceleratorQuotas of their namespace before they are stored.

Flow: `quotas.Quotas.reserve` is called by the webhook of every replica and writes a reservation by
compare-and-swap; the leader counts stored claims and takes reservations away again (`settling`).

Limits: prepare enforces no quota.
"""
