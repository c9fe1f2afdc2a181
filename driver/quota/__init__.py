"""Quotas: what a claim is charged, and whether a quota still has it.

Flow: `driver.quota.charging` reads a claim's spec and gives amounts, by what `driver.quota.stock` knows of
the cluster's cards; `driver.quota.ledger` holds them against a quota's status.

Limits: pure. Who reads and writes, and when, is the controller's (`controller.quota`). Nothing is imported
here, since not everybody who charges needs CEL.
"""
