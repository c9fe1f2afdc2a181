from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from controller.quota.conditions import with_conditions
from driver.api.node import AcceleratorNodeStatus, AgentStatus, status_of
from driver.api.policy import AcceleratorPolicySpec, effective_policy
from driver.api.quota import AcceleratorQuotaSpec, AcceleratorQuotaStatus
from driver.cards import Card
from driver.quota.amounts import Charge
from driver.quota.ledger import Reservation, expires_at, read_ledger, written_status
from tooling.generate.crd import _BOUNDS, DEFINITIONS, Definition, files

NODE, POLICY, QUOTA = DEFINITIONS
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def _schema(definition: Definition) -> dict[str, Any]:
    (version,) = definition.document()["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def _walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from _walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _walk(schema["additionalProperties"], f"{path}{{}}")


def _misfits(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """What the API server would drop or refuse of a value."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string"):
        return []
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{path} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r}"]
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        known = schema.get("properties", {})
        missing = [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
        inside = [
            misfit
            for name, child in value.items()
            for misfit in (
                _misfits(child, known.get(name, extra), f"{path}.{name}")
                if name in known or isinstance(extra, dict)
                else [f"{path}.{name} would be dropped"]
            )
        ]
        return missing + inside
    if isinstance(value, list):
        return [misfit for one in value for misfit in _misfits(one, schema["items"], f"{path}[]")]
    return []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.resource.kind)
def test_every_level_has_a_type_and_lists_and_texts_are_bounded(definition: Definition) -> None:
    unbounded = []
    for path, schema in _walk(_schema(definition), definition.resource.kind):
        if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string"):
            continue
        assert isinstance(schema.get("type"), str), path
        if schema["type"] == "array" and "maxItems" not in schema:
            unbounded.append(path)
        known = "enum" in schema or "format" in schema or path.endswith((".apiVersion", ".kind"))
        if schema["type"] == "string" and "maxLength" not in schema and not known:
            unbounded.append(path)
    assert unbounded == []


def test_every_bound_is_for_a_field_that_there_is() -> None:
    paths = {path for one in DEFINITIONS for path, _ in _walk(_schema(one), one.resource.kind)}
    assert sorted(set(_BOUNDS) - paths) == []


def test_nothing_that_an_agent_reports_is_dropped_by_the_server() -> None:
    card = Card(
        name="nvidia-1",
        vendor="nvidia",
        model="A10",
        memory_bytes=1 << 30,
        uuid="GPU-1",
        architecture="Ampere",
        driver_version="1.2.3",
        pci_bus_id="0000:3b:00.0",
        pcie_root="pci0000:3a",
        numa_node=1,
        unpublished="Excluded.",
        extra_attributes={"tier": "gold", "slots": 7, "spare": True},
    )
    status = status_of(
        [card], agent=AgentStatus(version="1"), policy=effective_policy([], node_labels={}), problems=["One."]
    )
    document = json.loads(status.model_dump_json(exclude_none=True))
    assert _misfits(document, _schema(NODE)["properties"]["status"], "status") == []


@pytest.mark.parametrize(
    ("model", "definition", "part"),
    [
        (AcceleratorNodeStatus, NODE, "status"),
        (AcceleratorPolicySpec, POLICY, "spec"),
        (AcceleratorQuotaSpec, QUOTA, "spec"),
        (AcceleratorQuotaStatus, QUOTA, "status"),
    ],
)
def test_a_crd_knows_the_fields_of_its_model(
    model: type[BaseModel], definition: Definition, part: str
) -> None:
    known = set(_schema(definition)["properties"][part]["properties"])
    assert {info.alias or name for name, info in model.model_fields.items()} <= known


def test_nothing_that_is_written_into_a_quota_is_dropped_by_the_server() -> None:
    document: dict[str, Any] = {
        "metadata": {"generation": 2},
        "spec": {"hard": {"memory": "8Gi", "cards": 4}},
    }
    one = Reservation(
        uid="u", name="c", charge=Charge(memory_mib=1, cores=2, cards=3), expires=expires_at(NOW), request="r"
    )
    ledger = replace(read_ledger(document)[1], version=7, reservations=(one,))
    status = with_conditions(written_status(ledger, document), ledger, now=NOW)
    assert _misfits(document["spec"], _schema(QUOTA)["properties"]["spec"], "spec") == []
    assert _misfits(status, _schema(QUOTA)["properties"]["status"], "status") == []


def test_the_controller_can_set_conditions_on_a_node_without_an_inventory() -> None:
    status = _schema(NODE)["properties"]["status"]
    assert "required" not in status
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.resource.kind)
def test_every_column_shows_a_field_that_there_is(definition: Definition) -> None:
    paths = {path for path, _ in _walk(_schema(definition), "")} | {".metadata.creationTimestamp"}
    # An entry that is picked by what it says is an entry like all others of its list.
    shown = [re.sub(r"\[\?\(@\..*?\)\]", "[]", column.path) for column in definition.columns]
    assert [path for path in shown if path not in paths] == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: one.resource.kind)
def test_a_crd_has_a_status_that_is_written_apart_and_stays_when_the_chart_goes(
    definition: Definition,
) -> None:
    document = definition.document()
    assert document["spec"]["versions"][0]["subresources"] == {"status": {}}
    assert document["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert document["spec"]["scope"] == ("Namespaced" if definition is QUOTA else "Cluster")


def test_the_crds_are_templates_so_that_an_upgrade_of_the_chart_upgrades_them() -> None:
    assert [path.startswith("manifests/chart/templates/") for path in files()] == [True] * 3
