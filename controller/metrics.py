"""The controller's metrics, in a registry of their own.

Limits: never labelled by claim, pod or node: their number has no bound.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

_PREFIX = "dragoman_controller"


class Metrics:
    """All metrics, as attributes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.slice_writes = Counter(
            f"{_PREFIX}_slice_writes", "Writes of ResourceSlices.", ["verb"], registry=self.registry
        )
        self.slices_recreated = Counter(
            f"{_PREFIX}_slices_recreated", "Slices made again after they vanished.", registry=self.registry
        )
        self.fields_dropped = Counter(
            f"{_PREFIX}_fields_dropped",
            "Fields that the API server dropped.",
            ["gate"],
            registry=self.registry,
        )
        self.nodes_published = Gauge(
            f"{_PREFIX}_nodes_published", "Nodes whose slices are as wanted.", registry=self.registry
        )
        self.events_written = Counter(
            f"{_PREFIX}_events", "Events written on claims and pods.", ["reason"], registry=self.registry
        )
        self.native_possible = Gauge(
            f"{_PREFIX}_native_mode_possible",
            "1 if kube-scheduler can allocate shares, 0 if not, -1 if not known.",
            registry=self.registry,
        )
        self.leading = Gauge(f"{_PREFIX}_leading", "1 if this replica leads.", registry=self.registry)
        self.informer_age = Gauge(
            f"{_PREFIX}_informer_age_seconds",
            "Seconds since the API server last told an informer anything.",
            ["informer"],
            registry=self.registry,
        )
        self.informer_objects = Gauge(
            f"{_PREFIX}_informer_objects",
            "Objects that an informer keeps.",
            ["informer"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            f"{_PREFIX}_queue_depth", "Keys that wait for a worker.", ["queue"], registry=self.registry
        )
        self.queue_stalled = Gauge(
            f"{_PREFIX}_queue_stalled_seconds",
            "Seconds without progress although there is work.",
            ["queue"],
            registry=self.registry,
        )
        self.queue_failures = Gauge(
            f"{_PREFIX}_queue_failures", "Handlings of keys that failed.", ["queue"], registry=self.registry
        )

    def serve(self, port: int, *, address: str) -> None:
        """Serves `/metrics` from a thread, for as long as the process lives."""
        start_http_server(port, addr=address, registry=self.registry)
