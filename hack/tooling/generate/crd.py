"""Makes the CustomResourceDefinitions from the documents of `driver.api`.

Purpose: the API server refuses what the code could not decode, and says so in the same words where it can.
Flow: flat schema, made structural; then `_BOUNDS` adds what pydantic does not say: sizes (a hostile status
costs bounded memory), list types (server-side apply merges by key), rules in CEL.
Limits: the CRDs are templates of the chart and not in its `crds/` folder, because Helm never upgrades that
folder; `helm.sh/resource-policy: keep` leaves them, and with them the administrator's policies, when the
chart goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from driver.api.node import AcceleratorNodeStatus
from driver.api.policy import AcceleratorPolicySpec
from driver.api.quota import MAX_RESERVATIONS, AcceleratorQuotaSpec, AcceleratorQuotaStatus
from driver.api.rollout import MAX_TURNS, AcceleratorPolicyStatus
from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES, ACCELERATOR_QUOTAS, Resource
from tooling.generate.jsonschema import Schema, flat_schema
from tooling.generate.yamltext import dump

_MAX_CARDS = 256
_MAX_TEXT = 1024
_QUANTITY_RULE = {
    "rule": "isQuantity(self) && quantity(self).isInteger() && quantity(self).asInteger() >= 0"
    " && quantity(self).asInteger() % 1048576 == 0",
    "message": "Reserved memory has to be a whole number of MiB, 0 or more, such as 512Mi.",
}

_WHOLE = "quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 0"
_IS_QUANTITY = "isQuantity(string(self)) && "


def _amount(rule: str, message: str) -> Schema:
    """An amount that may be written as a number or as a quantity."""
    return {
        "x-kubernetes-int-or-string": True,
        "x-kubernetes-preserve-unknown-fields": None,
        # Without a bound, a rule's cost is taken for that of a text of 3 MiB.
        "maxLength": 32,
        "x-kubernetes-validations": [{"rule": _IS_QUANTITY + rule, "message": message}],
    }


_MEMORY = _amount(
    f"{_WHOLE} && quantity(string(self)).asInteger() % 1048576 == 0",
    "Memory has to be a whole number of MiB, 0 or more, such as 64Gi.",
)
_CORES = _amount(_WHOLE, "Compute has to be a whole number of percent, 0 or more; 100 for each card.")
_COUNT = _amount(_WHOLE, "Has to be a whole number of cards, 0 or more.")
_QUOTA_AMOUNTS = {"memory": _MEMORY, "cores": _CORES, "cards": _COUNT}
_NODES = {
    "x-kubernetes-int-or-string": True,
    "x-kubernetes-preserve-unknown-fields": None,
    "maxLength": 8,
    "x-kubernetes-validations": [
        {
            "rule": "type(self) == int ? self > 0 : string(self).matches('^([1-9][0-9]?|100)%$')",
            "message": "Has to be a number of nodes, 1 or more, or a percentage from 1% to 100%.",
        }
    ],
}
_PLAIN = {"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": None}

_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "AcceleratorNode.status.cards": {
        "maxItems": _MAX_CARDS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    },
    "AcceleratorNode.status.cards[].name": {"maxLength": 63},
    "AcceleratorNode.status.cards[].vendor": {"maxLength": 63},
    "AcceleratorNode.status.cards[].memoryMiB": {"minimum": 1, "format": "int64"},
    "AcceleratorNode.status.cards[].physicalMemoryMiB": {"minimum": 0, "format": "int64"},
    "AcceleratorNode.status.cards[].numaNode": {"format": "int32", "nullable": True},
    "AcceleratorNode.status.cards[].extraAttributes": {"maxProperties": 32},
    "AcceleratorNode.status.policy": {"maxItems": 1024, "x-kubernetes-list-type": "atomic"},
    "AcceleratorNode.status.policyChange.number": {"format": "int64"},
    "AcceleratorNode.status.policyChange.policies": {"maxItems": 64, "x-kubernetes-list-type": "atomic"},
    "AcceleratorNode.status.policyChange.policies[]": {"maxLength": 253},
    "AcceleratorNode.status.policyChange.fields": {"maxItems": 64, "x-kubernetes-list-type": "atomic"},
    "AcceleratorNode.status.problems": {"maxItems": 64, "x-kubernetes-list-type": "atomic"},
    "AcceleratorNode.status.problems[]": {"maxLength": 4096},
    "AcceleratorNode.status.summary.cards": {"format": "int32"},
    **{f"AcceleratorQuota.spec.hard.{name}": bounds for name, bounds in _QUOTA_AMOUNTS.items()},
    **{f"AcceleratorQuota.spec.maxPerClaim.{name}": bounds for name, bounds in _QUOTA_AMOUNTS.items()},
    **{f"AcceleratorQuota.status.hard.{name}": _PLAIN for name in _QUOTA_AMOUNTS},
    **{f"AcceleratorQuota.status.used.{name}": _PLAIN for name in _QUOTA_AMOUNTS},
    "AcceleratorQuota.spec.wholeCardMemory": _MEMORY,
    "AcceleratorQuota.spec.deviceClassNames": {"maxItems": 64, "x-kubernetes-list-type": "set"},
    "AcceleratorQuota.spec.deviceClassNames[]": {"minLength": 1, "maxLength": 253},
    "AcceleratorQuota.spec.vendors": {"maxItems": 64, "x-kubernetes-list-type": "set"},
    "AcceleratorQuota.spec.vendors[]": {"minLength": 1, "maxLength": 63},
    "AcceleratorQuota.spec.models": {"maxItems": 64, "x-kubernetes-list-type": "set"},
    "AcceleratorQuota.spec.models[]": {"minLength": 1, "maxLength": 64},
    "AcceleratorQuota.status.observedGeneration": {"format": "int64"},
    # As one value: field managers would note each reservation by its UID, which doubles the object.
    "AcceleratorQuota.status.reservations": {
        "maxItems": MAX_RESERVATIONS,
        "x-kubernetes-list-type": "atomic",
    },
    "AcceleratorQuota.status.reservations[].uid": {"maxLength": 64},
    "AcceleratorQuota.status.reservations[].request": {"maxLength": 64},
    "AcceleratorQuota.status.reservations[].name": {"maxLength": 253},
    "AcceleratorQuota.status.reservations[].memoryMiB": {"format": "int64"},
    "AcceleratorQuota.status.reservations[].cores": {"format": "int64"},
    "AcceleratorQuota.status.reservations[].cards": {"format": "int64"},
    "AcceleratorQuota.status.reservations[].expires": {"format": "date-time", "maxLength": 32},
    "AcceleratorPolicy.spec.cards": {
        "maxItems": _MAX_CARDS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["uuid"],
    },
    "AcceleratorPolicy.spec.cards[].uuid": {"minLength": 1, "maxLength": 64},
    "AcceleratorPolicy.spec.cards[].reservedMemory": {
        "maxLength": 32,
        "x-kubernetes-validations": [_QUANTITY_RULE],
    },
    "AcceleratorPolicy.spec.reservedMemory": {"maxLength": 32, "x-kubernetes-validations": [_QUANTITY_RULE]},
    "AcceleratorPolicy.spec.maxUnavailable": _NODES,
    "AcceleratorPolicy.status.observedGeneration": {"format": "int64"},
    # As one value: it is written with the resourceVersion that it was decided upon.
    "AcceleratorPolicy.status.turns": {"maxItems": MAX_TURNS, "x-kubernetes-list-type": "atomic"},
    "AcceleratorPolicy.status.turns[].node": {"maxLength": 253},
    "AcceleratorPolicy.status.turns[].number": {"format": "int64"},
    "AcceleratorPolicy.status.turns[].since": {"format": "date-time", "maxLength": 32},
    "AcceleratorPolicy.spec.priority": {"format": "int32", "default": 0},
    "AcceleratorPolicy.spec.isolation": {"minItems": 1, "maxItems": 5, "x-kubernetes-list-type": "atomic"},
    "AcceleratorPolicy.spec.nodeSelector.matchLabels": {"maxProperties": 32},
    "AcceleratorPolicy.spec.nodeSelector.matchExpressions": {
        "maxItems": 32,
        "x-kubernetes-list-type": "atomic",
    },
    "AcceleratorPolicy.spec.nodeSelector.matchExpressions[].values": {
        "maxItems": 256,
        "x-kubernetes-list-type": "atomic",
    },
}

_CONDITIONS: Schema = {
    "type": "array",
    "description": "What the controller says about this object.",
    "maxItems": 16,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string", "maxLength": 316},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string", "maxLength": 1024},
            "message": {"type": "string", "maxLength": 32768},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of `kubectl get`; those with a priority show with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def document(self) -> Schema:
        """The column as a CRD has it."""
        found: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            found["description"] = self.description
        if self.priority:
            found["priority"] = self.priority
        return found


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One CRD: its names, the model of its content, and its columns."""

    resource: Resource
    description: str
    short_names: tuple[str, ...]
    part: str
    model: type[BaseModel]
    columns: tuple[Column, ...]
    status: type[BaseModel] | None = None

    @property
    def singular(self) -> str:
        """The kind in lower case."""
        return self.resource.kind.lower()

    def document(self) -> Schema:
        """The CustomResourceDefinition."""
        kind = self.resource.kind
        properties: Schema = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            self.part: _structural(flat_schema(self.model), path=f"{kind}.{self.part}"),
        }
        if self.status is not None:
            properties["status"] = _structural(flat_schema(self.status), path=f"{kind}.status")
        status = properties.setdefault(
            "status", {"type": "object", "description": "What became of it.", "properties": {}}
        )
        status["properties"]["conditions"] = _CONDITIONS
        # The controller may say something about an object whose agent has not reported yet.
        status.pop("required", None)
        schema: Schema = {"type": "object", "description": self.description, "properties": properties}
        if self.part == "spec":
            schema["required"] = ["spec"]
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{self.resource.plural}.{self.resource.group}",
                "labels": {"app.kubernetes.io/name": "dragoman"},
                "annotations": {"helm.sh/resource-policy": "keep"},
            },
            "spec": {
                "group": self.resource.group,
                "scope": "Namespaced" if self.resource.namespaced else "Cluster",
                "names": {
                    "kind": kind,
                    "listKind": f"{kind}List",
                    "plural": self.resource.plural,
                    "singular": self.singular,
                    "shortNames": list(self.short_names),
                    "categories": ["dragoman"],
                },
                "versions": [
                    {
                        "name": self.resource.version,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "additionalPrinterColumns": [column.document() for column in self.columns],
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }


DEFINITIONS = (
    Definition(
        resource=ACCELERATOR_NODES,
        description="The accelerators of one node, as its agent reports them; conditions: the controller.",
        short_names=("accnode",),
        part="status",
        model=AcceleratorNodeStatus,
        columns=(
            Column(name="Cards", type="integer", path=".status.summary.cards", description="Cards on offer"),
            Column(name="Memory", path=".status.summary.memory", description="Memory of all cards on offer"),
            Column(name="Vendors", path=".status.summary.vendors"),
            Column(
                name="Faulty", type="integer", path=".status.summary.faulty", description="Cards with a fault"
            ),
            Column(
                name="Handed over",
                path='.status.conditions[?(@.type=="HandedOver")].reason',
                description="To whom the node's cards are given to allocate, or what that waits for",
            ),
            Column(name="Agent", path=".status.agent.version", description="Version of the node's agent"),
            Column(name="Simulated", type="boolean", path=".status.simulated", priority=1),
            Column(name="Pod", path=".status.agent.podName", priority=1, description="The agent's pod"),
            Column(name="Age", type="date", path=".metadata.creationTimestamp"),
        ),
    ),
    Definition(
        resource=ACCELERATOR_POLICIES,
        description="What an administrator says about the accelerators of the nodes that a selector picks.",
        short_names=("accpolicy",),
        part="spec",
        model=AcceleratorPolicySpec,
        status=AcceleratorPolicyStatus,
        columns=(
            Column(name="Priority", type="integer", path=".spec.priority"),
            Column(name="Sharing", type="boolean", path=".spec.sharing"),
            Column(name="Isolation", path=".spec.isolation"),
            Column(name="Reserved", path=".spec.reservedMemory"),
            Column(
                name="Rolled out",
                path='.status.conditions[?(@.type=="RolledOut")].reason',
                description="How far a change has come, where maxUnavailable is set",
            ),
            Column(
                name="Waiting",
                type="integer",
                path=".status.waiting",
                priority=1,
                description="Nodes that wait for their turn",
            ),
            Column(name="Age", type="date", path=".metadata.creationTimestamp"),
        ),
    ),
    Definition(
        resource=ACCELERATOR_QUOTAS,
        description="How much of the cluster's accelerators the claims of this namespace may ask for.",
        short_names=("accquota",),
        part="spec",
        model=AcceleratorQuotaSpec,
        status=AcceleratorQuotaStatus,
        columns=(
            Column(name="Memory", path=".status.used.memory", description="Memory that claims ask for"),
            Column(name="Of memory", path=".spec.hard.memory"),
            Column(name="Cores", path=".status.used.cores", description="Compute in percent"),
            Column(name="Of cores", path=".spec.hard.cores"),
            Column(name="Cards", path=".status.used.cards", description="Cards and shares of cards"),
            Column(name="Of cards", path=".spec.hard.cards"),
            Column(name="Classes", path=".spec.deviceClassNames", priority=1),
            Column(name="Age", type="date", path=".metadata.creationTimestamp"),
        ),
    ),
)


def files() -> dict[str, str]:
    """The chart's templates, path to text."""
    found = {}
    for definition in DEFINITIONS:
        body = dump(definition.document())
        head = "{{- if .Values.crds.install }}\n# Generated by hack/generate from driver/api.\n"
        path = f"manifests/chart/templates/crds/{definition.resource.plural}.yaml"
        found[path] = f"{head}{body}{{{{- end }}}}\n"
    return found


def _structural(schema: Schema, *, path: str) -> Schema:
    """The schema as a CRD may have it: every level typed, unknown fields left to pruning, bounds added."""
    known = {key: value for key, value in schema.items() if key != "additionalProperties"}
    extra = schema.get("additionalProperties")
    if "properties" in known:
        known["properties"] = {
            name: _structural(child, path=f"{path}.{name}") for name, child in known["properties"].items()
        }
    elif isinstance(extra, Mapping):
        known["additionalProperties"] = _structural(dict(extra), path=f"{path}{{}}")
    if "items" in known:
        known["items"] = _structural(known["items"], path=f"{path}[]")
    if isinstance(known.get("type"), list):
        # A structural schema knows no union of scalars; the agent's decoding is strict about them.
        known = {key: value for key, value in known.items() if key != "type"}
        known["x-kubernetes-preserve-unknown-fields"] = True
    if known.get("type") == "string" and "enum" not in known:
        known.setdefault("maxLength", _MAX_TEXT)
    known.update(_BOUNDS.get(path, {}))
    return known
