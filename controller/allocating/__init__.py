"""Allocation by us, for clusters in which kube-scheduler cannot give out shares or shall not.

Flow: a pod waits -> its claims of our classes are decided together, for a node that the pod may use
(`pod_fit`), by `driver.allocation` -> the answer is written to each claim's status (`writing`) ->
kube-scheduler sees allocated claims and binds the pod to that node.

Limits: one replica decides, the one that holds the Lease. kube-scheduler's view of a node is wider than ours:
what `pod_fit` leaves out may make it refuse a node; then it takes the allocation back, which is remembered
(`refused`), and another node is tried.
"""
