"""`hack/demo`: the main job on an embedded simulated node, in one command.

`node` reads the node's file; `manifests` reads claims and classes; `agent` starts the real node agent and
speaks to it as the kubelet does; `story` runs the claims through allocation and prepare; `picture` draws who
holds what; `__main__` is the command line.

What is real: discovery, slices, CEL, allocation, the agent's process, gRPC over a unix socket, state files
and CDI specs. What is simulated: the cards, and the kubelet's side of the conversation. No container is
started.
"""
