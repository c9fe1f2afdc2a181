import re

import pytest

from kubelet_plugin.metrics import LATENCY_BUCKETS, SPECS, Kind, Metrics


def test_every_metric_of_the_table_is_served() -> None:
    text = Metrics().render().decode()
    for spec in SPECS:
        kind = {"counter": "counter", "gauge": "gauge", "histogram": "histogram"}[spec.kind]
        assert f"# TYPE {spec.full_name} {kind}" in text


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_only_what_is_used_of_shares_now_is_labelled_by_what_users_make(spec: object) -> None:
    labels = set(getattr(spec, "labels", ()))
    made_by_users = {"claim", "claim_uid", "pod", "namespace", "container"}
    assert not labels & made_by_users or getattr(spec, "name", "").startswith("share_")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: object) -> None:
    name, kind = getattr(spec, "name", ""), getattr(spec, "kind", "")
    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
    assert name.endswith("_total") == (kind is Kind.COUNTER)
    if kind is Kind.HISTOGRAM:
        assert name.endswith("_seconds")


def test_latencies_are_told_apart_from_a_millisecond_up() -> None:
    assert LATENCY_BUCKETS[0] == 0.001
    assert list(LATENCY_BUCKETS) == sorted(LATENCY_BUCKETS)


def test_counters_gauges_and_histograms_take_values_by_label() -> None:
    metrics = Metrics()
    metrics.count("registrations_total", result="registered", amount=2)
    metrics.gauge("prepared_claims", 3)
    metrics.observe("phase_duration_seconds", 0.0015, phase="state")
    text = metrics.render().decode()
    assert 'dragoman_agent_registrations_total{result="registered"} 2.0' in text
    assert "dragoman_agent_prepared_claims 3.0" in text
    assert 'dragoman_agent_phase_duration_seconds_bucket{le="0.002",phase="state"} 1.0' in text
    assert 'dragoman_agent_phase_duration_seconds_bucket{le="0.001",phase="state"} 0.0' in text


def test_a_gauge_that_was_cleared_forgets_labels_that_no_longer_hold() -> None:
    metrics = Metrics()
    metrics.gauge("cards", 1, vendor="gone", offered="yes")
    metrics.clear("cards")
    assert "gone" not in metrics.render().decode()


def test_two_agents_in_one_process_do_not_share_their_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.gauge("prepared_claims", 5)
    assert "dragoman_agent_prepared_claims 0.0" in second.render().decode()
