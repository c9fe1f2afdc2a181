"""What the tests on a real Kubernetes share: a client, waiting, installing, reading what a probe saw."""
