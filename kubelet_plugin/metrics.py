"""All metrics of the agent, as one table.

Flow: `SPECS` is the table; `Metrics` makes prometheus-client's objects of it in a registry of its own;
`/metrics` renders that registry; docs are generated from the table.

Limits: only the series `share_*`, what is used of this node's shares now, are labelled by claim, pod and
namespace: their number is bounded, and they are gone when the claim is. Failures are measured like successes:
each duration has a `result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series and nobody asks for them

PREFIX = "dragoman_agent_"

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds. A prepare takes single milliseconds; the kubelet gives up after 45 s."""


_WHERE = ("namespace", "pod", "container", "claim", "device")


class Kind(StrEnum):
    """What kind of metric it is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric: its name without the prefix, its kind, what it says, and its labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it."""
        return PREFIX + self.name


SPECS: tuple[MetricSpec, ...] = (
    MetricSpec(name="info", kind=Kind.GAUGE, help="Always 1; the labels say what runs.", labels=("version",)),
    MetricSpec(
        name="claims_total",
        kind=Kind.COUNTER,
        help="Claims of the kubelet's calls, by operation (prepare, unprepare), result (ok, refused, failed) "
        "and the refusal's reason.",
        labels=("operation", "result", "reason"),
    ),
    MetricSpec(
        name="call_duration_seconds",
        kind=Kind.HISTOGRAM,
        help="Duration of the kubelet's calls, by operation, API version and result (ok, partial, failed).",
        labels=("operation", "version", "result"),
    ),
    MetricSpec(
        name="phase_duration_seconds",
        kind=Kind.HISTOGRAM,
        help="Duration of the phases of preparing and unpreparing one claim, failed ones as well: "
        "fetch, guard, state, isolation, cdi.",
        labels=("phase",),
    ),
    MetricSpec(name="prepared_claims", kind=Kind.GAUGE, help="Claims that are prepared on this node now."),
    MetricSpec(
        name="registrations_total",
        kind=Kind.COUNTER,
        help="Handshakes with the kubelet, by result (registered, refused).",
        labels=("result",),
    ),
    MetricSpec(
        name="kubelet_connected",
        kind=Kind.GAUGE,
        help="1 while registered with and connected to the kubelet.",
    ),
    MetricSpec(name="cards", kind=Kind.GAUGE, help="Cards of this node.", labels=("vendor", "offered")),
    MetricSpec(
        name="cards_faulty",
        kind=Kind.GAUGE,
        help="Cards that have a fault, by its reason.",
        labels=("reason",),
    ),
    MetricSpec(
        name="card_faults_total",
        kind=Kind.COUNTER,
        help="Faults that drivers reported, by reason and whose they are (card, application, ignored).",
        labels=("reason", "of"),
    ),
    MetricSpec(
        name="shares_in_force",
        kind=Kind.GAUGE,
        help="Shares with a limit, by whether it was seen in force in the running containers "
        "(yes, no, unknown).",
        labels=("in_force",),
    ),
    MetricSpec(
        name="in_force_failures_total",
        kind=Kind.COUNTER,
        help="Shares whose limits were found not in force, by reason.",
        labels=("reason",),
    ),
    MetricSpec(
        name="containers_not_answering",
        kind=Kind.GAUGE,
        help="Containers of which nobody knows whether limits hold, since their processes cannot be looked "
        "at in time, or too many others' cannot.",
    ),
    MetricSpec(
        name="share_memory_used_bytes",
        kind=Kind.GAUGE,
        help="Memory of the card that the share uses, as the preload library counts it.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="share_memory_limit_bytes", kind=Kind.GAUGE, help="Memory limit of the share.", labels=_WHERE
    ),
    MetricSpec(
        name="share_compute_used_percent",
        kind=Kind.GAUGE,
        help="Percent of the card's compute that the share uses, as the preload library last sampled it.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="share_compute_limit_percent",
        kind=Kind.GAUGE,
        help="Cap on compute of the share.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="share_processes",
        kind=Kind.GAUGE,
        help="Processes that use the share, as the preload library counts them.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="share_last_launch_timestamp_seconds",
        kind=Kind.GAUGE,
        help="When the share last launched a kernel, in seconds since 1970.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="share_waiting",
        kind=Kind.GAUGE,
        help="1 while a share of low priority waits for one of high priority, otherwise 0.",
        labels=_WHERE,
    ),
    MetricSpec(
        name="discovery_duration_seconds",
        kind=Kind.HISTOGRAM,
        help="Duration of a look for cards, by vendor and result (ok, problems, failed).",
        labels=("vendor", "result"),
    ),
    MetricSpec(
        name="api_request_duration_seconds",
        kind=Kind.HISTOGRAM,
        help="Duration of requests to the API server, by method and HTTP status (0: no answer).",
        labels=("method", "status"),
    ),
    MetricSpec(
        name="status_writes_total",
        kind=Kind.COUNTER,
        help="Writes of status, by object (node, claim) and result (ok, failed, refused).",
        labels=("object", "result"),
    ),
    MetricSpec(
        name="dropped_fields_total",
        kind=Kind.COUNTER,
        help="Writes whose answer lacked fields that were sent, by object and the gate that is probably off.",
        labels=("object", "gate"),
    ),
    MetricSpec(
        name="events_total",
        kind=Kind.COUNTER,
        help="Events about refused claims, faulty cards and limits that are not in force, by result "
        "(written, suppressed, failed).",
        labels=("result",),
    ),
    MetricSpec(name="mps_shares", kind=Kind.GAUGE, help="Shares whose limits MPS has to hold now."),
    MetricSpec(
        name="mps_shares_lost", kind=Kind.GAUGE, help="Shares whose limits MPS does not hold any more."
    ),
    MetricSpec(
        name="mps_daemon_up",
        kind=Kind.GAUGE,
        help="1 while the MPS daemon answers; as of the last look while shares needed it.",
    ),
    MetricSpec(
        name="mps_restarts_total", kind=Kind.COUNTER, help="Times that the MPS daemon ended by itself."
    ),
    MetricSpec(
        name="mps_repairs_total",
        kind=Kind.COUNTER,
        help="Shares that had to be noted anew for MPS, since their note was missing or wrong.",
    ),
    MetricSpec(
        name="loop_delay_seconds",
        kind=Kind.GAUGE,
        help="By how much the event loop was late in the last second; above 0.1 something blocks it.",
    ),
)


class Metrics:
    """The agent's metrics, by the names of the table (without the prefix)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        # By name and labels. A prepare notes nine durations, and finding out where took longer than noting.
        self._histograms: dict[tuple[object, ...], Histogram] = {}
        for spec in SPECS:
            if spec.kind is Kind.HISTOGRAM:
                self._metrics[spec.name] = Histogram(
                    spec.full_name, spec.help, spec.labels, registry=self.registry, buckets=LATENCY_BUCKETS
                )
            else:
                make = Counter if spec.kind is Kind.COUNTER else Gauge
                self._metrics[spec.name] = make(
                    spec.full_name, spec.help, spec.labels, registry=self.registry
                )

    def count(self, name: str, *, amount: int = 1, **labels: str) -> None:
        """Adds to a counter."""
        metric = self._child(name, labels)
        assert isinstance(metric, Counter)  # noqa: S101 - the table says so; a wrong name is a bug of ours
        metric.inc(amount)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Adds a duration to a histogram."""
        key = (name, *labels.items())
        metric = self._histograms.get(key)
        if metric is None:
            found = self._child(name, labels)
            assert isinstance(found, Histogram)  # noqa: S101
            metric = self._histograms[key] = found
        metric.observe(seconds)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge."""
        metric = self._child(name, labels)
        assert isinstance(metric, Gauge)  # noqa: S101
        metric.set(value)

    def clear(self, name: str) -> None:
        """Forgets all label values of a gauge, before those that still hold are set."""
        metric = self._metrics[name]
        assert isinstance(metric, Gauge)  # noqa: S101
        metric.clear()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _child(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        metric = self._metrics[name]
        return metric.labels(**labels) if labels else metric
