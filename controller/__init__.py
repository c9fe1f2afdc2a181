"""The cluster side: publishes slices, resolves claims, explains what waits."""
