"""Which cards have a fault, from what their drivers say.

Purpose: one verdict for each card, with reason and beginning, for everybody: the AcceleratorNode (and so the
taints in the slices), the kubelet's health stream, the claims that hold the card, metrics.

Flow: `questions` asks the vendors every few seconds, `watch` also hears of the faults that drivers report as
they happen -> `book` makes verdicts of both, at once when something is wrong and only after a hold-off when
it is over -> `watch` hands a verdict that changed to the inventory, the health stream and `telling` (claims
and Events); `memory` keeps them over a restart of the agent. `missing` keeps a card that vanished in sight
for a while.

Limits: nothing here touches a card.
"""
