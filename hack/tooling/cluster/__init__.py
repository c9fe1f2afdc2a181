"""A real Kubernetes node made of plain processes: built, started, looked into and ended by ``hack/cluster``.

Tests use `tooling.cluster.api` to have a cluster of their own and `tooling.cluster.node_access` to touch its
node.
"""
