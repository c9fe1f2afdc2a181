"""Explaining: why a pod that asks for cards of ours is waiting, as Events on the pod and its claims.

Flow: `classes` says which DeviceClasses are ours; `views` keep of pods and claims what is needed; `extended`
makes a claim of what a pod asks by extended resources; `answers` asks `driver.allocation.why_not` about every
node and puts what it says into one note; `shares` adds what ShareConfig means for it; `explainer` does so for
one pod at a time and writes Events where there is news.

Limits: only the leader explains. What keeps a pod waiting apart from its cards (CPU, taints, affinity) is for
kube-scheduler's own Events; here it is only said that the cards are not the reason.
"""
