"""Publishing: AcceleratorNodes become ResourceSlices.

Flow: `views` keep of the API's objects what is needed; `publisher` compares, for one node at a time, what is
wanted with what exists, and writes; `recreation` says how long to wait for slices that vanish; `conditions`
says on the AcceleratorNode what came of it.

Limits: only the leader writes. Slices are wanted while the node's agent pod is Ready; those of an agent
that is not are neither made nor changed, because the kubelet deletes them and would do so again.
"""
