"""Explaining: why a pod that asks for cards of ours is waiting, as Events on the pod and its claims.

Flow: `classes` says which DeviceClasses are ours; `views` keep of pods and claims what is needed;
`answers` asks the allocator (`driver.allocation`, which alone decides) about every node and puts its
refusals into one sentence; `explainer` does so for one pod at a time and writes Events where there is
news.

Limits: only the leader explains. What keeps a pod waiting apart from its cards (CPU, taints, affinity) is for
kube-scheduler's own Events; here it is only said that the cards are not the reason.
"""
