"""The controller's metrics, in a registry of their own.

Limits: never labelled by claim, pod or node: their number has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, start_http_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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
        self.held_up = Gauge(
            f"{_PREFIX}_claims_holding_up_allocation",
            "Claims that this replica may not change, and because of which it allocates nothing.",
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

        self.admissions = Histogram(
            f"{_PREFIX}_admission_seconds",
            "Time taken to answer admission requests.",
            ["outcome"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0),
            registry=self.registry,
        )

    def serve(self, port: int, *, address: str, not_ready: Callable[[], Sequence[str]]) -> None:
        """Serves `/metrics` and `/readyz` from a thread, for as long as the process lives.

        Args:
            port: The port.
            address: Where to listen.
            not_ready: Sentences that say why the controller is not ready; none if it is. Called in a thread.
        """
        server, _ = start_http_server(port, addr=address, registry=self.registry)
        server.set_app(_with_readiness(make_wsgi_app(self.registry), not_ready))


def _with_readiness(metrics: WSGIApplication, not_ready: Callable[[], Sequence[str]]) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/readyz":
            return metrics(environ, start_response)
        found = not_ready()
        status = "503 Service Unavailable" if found else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return ["".join(f"{sentence}\n" for sentence in found or ("ready",)).encode()]

    return application
