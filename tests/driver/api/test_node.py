from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.node import AgentStatus, cards_of, decode_status, status_of
from driver.api.policy import effective_policy
from driver.cards import Card, Fault, IsolationLevel, TaintEffect
from driver.errors import ConfigError

AGENT = AgentStatus.model_validate_json('{"version": "0.1.0", "podName": "agent-1", "podUID": "u-1"}')
NO_POLICY = effective_policy([], node_labels={})

cards = st.builds(
    Card,
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True),
    vendor=st.sampled_from(["nvidia", "ascend"]),
    model=st.text(max_size=20),
    uuid=st.text(max_size=20),
    memory_bytes=st.integers(min_value=1, max_value=1 << 20).map(lambda mib: mib << 20),
    physical_memory_bytes=st.sampled_from([0, 1 << 40]),
    numa_node=st.none() | st.integers(0, 8),
    memory_isolation=st.sampled_from(IsolationLevel),
    shareable=st.booleans(),
    fault=st.none()
    | st.builds(
        Fault,
        reason=st.sampled_from(["CardLost", "Xid79"]),
        message=st.text(max_size=20),
        since=st.just("2026-01-01T00:00:00Z"),
        effect=st.sampled_from(TaintEffect),
    ),
    extra_attributes=st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | st.booleans() | st.text()),
)


@given(st.lists(cards, max_size=4))
def test_what_the_agent_reports_is_what_the_controller_reads(found: list[Card]) -> None:
    status = status_of(found, agent=AGENT, policy=NO_POLICY)
    document = json.loads(status.model_dump_json())
    assert list(cards_of(decode_status(document))) == found


def test_the_status_is_written_in_kubernetes_names() -> None:
    card = Card(name="a", vendor="nvidia", model="A30", memory_bytes=1 << 30, pci_bus_id="0000:3b:00.0")
    document = json.loads(status_of([card], agent=AGENT, policy=NO_POLICY).model_dump_json())
    assert document["cards"][0]["memoryMiB"] == 1024
    assert document["cards"][0]["pciBusID"] == "0000:3b:00.0"
    assert document["agent"]["podUID"] == "u-1"


def test_the_source_of_each_setting_is_reported() -> None:
    document = json.loads(status_of([], agent=AGENT, policy=NO_POLICY).model_dump_json())
    assert {"field": "sharing", "value": "true", "source": "default", "card": ""} in document["policy"]


def test_conditions_that_others_write_are_passed_over() -> None:
    document = json.loads(status_of([], agent=AGENT, policy=NO_POLICY).model_dump_json())
    assert cards_of(decode_status({**document, "conditions": [{"type": "Published"}]})) == ()


def test_a_status_of_another_shape_is_refused_by_its_field() -> None:
    with pytest.raises(ConfigError) as refused:
        decode_status({"agent": {"version": "1"}, "cards": [{"name": "a"}]})
    assert refused.value.field.startswith("status.cards[0]")


@pytest.mark.parametrize(
    ("sizes", "memory"), [((), "0"), ((24576, 24576), "48Gi"), ((24576, 512), "25088Mi")]
)
def test_summary_adds_up_the_memory_of_the_offered_cards(sizes: tuple[int, ...], memory: str) -> None:
    cards = [
        Card(name=f"nvidia-{index}", vendor="nvidia", model="A10", memory_bytes=mib << 20)
        for index, mib in enumerate(sizes)
    ]
    withheld = Card(name="amd-1", vendor="amd", model="MI210", memory_bytes=1 << 30, unpublished="Excluded.")
    status = status_of(
        [*cards, withheld], agent=AgentStatus(version="1"), policy=effective_policy([], node_labels={})
    )
    assert (status.summary.cards, status.summary.memory) == (len(sizes), memory)
    assert status.summary.vendors == ("nvidia" if sizes else "")


def test_faulty_cards_are_counted_if_they_are_offered_and_not_told_if_there_are_none() -> None:
    fault = Fault(reason="CardLost", message="", since="2026-01-01T00:00:00Z")
    well = Card(name="a", vendor="nvidia", model="A30", memory_bytes=1 << 30)
    found = [
        well,
        replace(well, name="b", fault=fault),
        replace(well, name="c", fault=fault, unpublished="no"),
    ]
    assert status_of(found, agent=AGENT, policy=NO_POLICY).summary.faulty == 1
    assert status_of([well], agent=AGENT, policy=NO_POLICY).summary.faulty is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reason", ""),
        ("reason", "a/b"),
        ("reason", "x" * 64),
        ("since", "yesterday"),
        ("effect", "PreferNoSchedule"),
        ("message", "x" * 1025),
    ],
)
def test_a_fault_that_could_not_become_a_taint_is_refused_by_its_field(field: str, value: str) -> None:
    fault = Fault(reason="CardLost", message="", since="2026-01-01T00:00:00Z")
    card = Card(name="a", vendor="nvidia", model="A30", memory_bytes=1 << 30, fault=fault)
    document = json.loads(status_of([card], agent=AGENT, policy=NO_POLICY).model_dump_json())
    document["cards"][0]["fault"][field] = value
    with pytest.raises(ConfigError) as refused:
        decode_status(document)
    assert refused.value.field == f"status.cards[0].fault.{field}"
