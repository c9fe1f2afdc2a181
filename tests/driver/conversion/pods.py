from __future__ import annotations

from typing import Any

from driver.cards import Card, Partition, device_name
from driver.conversion import CardKind, Conversion, ConversionSettings, convert
from driver.places import Place

JSON = dict[str, Any]


def pod(limits: JSON, *, annotations: JSON | None = None, labels: JSON | None = None, **spec: Any) -> JSON:
    metadata: JSON = {"name": "worker"}
    if annotations is not None:
        metadata["annotations"] = annotations
    if labels is not None:
        metadata["labels"] = labels
    container = {"name": "main", "resources": {"limits": limits}}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def cards_of(kind: CardKind, *, number: int, start: int = 0) -> list[Card]:
    """Cards of a kind, as an agent would report them."""
    return [
        Card(
            name=device_name(vendor=kind.vendor, uuid=f"{start + index:08x}"),
            vendor=kind.vendor,
            model=kind.model,
            memory_bytes=kind.memory_mib << 20,
            uuid=f"{start + index:08x}",
            pci_bus_id=f"0000:{start + index:02x}:00.0",
            numa_node=(start + index) % 2,
        )
        for index in range(number)
    ]


MIG = (
    ("1g.5gb", 4864, 14, 1),
    ("2g.10gb", 9856, 28, 2),
    ("3g.20gb", 19968, 42, 4),
    ("7g.40gb", 40192, 100, 8),
)
"""Profile, memory in MiB, compute in percent and slots of the instances that `partitions_of` makes."""


def partitions_of(card: Card) -> list[Card]:
    """MIG instances that could be had of a card, in the order in which they are offered."""
    return [
        Card(
            name=Place(card=card.name, kind="mig", profile=number, start=start, size=size).name,
            vendor=card.vendor,
            model=card.model,
            memory_bytes=memory << 20,
            cores=cores,
            pci_bus_id=card.pci_bus_id,
            numa_node=card.numa_node,
            shareable=False,
            partition=Partition(card_uuid=card.uuid, profile=profile),
        )
        for number, (profile, memory, cores, size) in enumerate(MIG)
        for start in range(8 - size, -1, -size)
    ]


STOCK = (
    CardKind(vendor="nvidia", model="NVIDIA A100-SXM4-40GB", memory_mib=40960),
    CardKind(vendor="nvidia", model="Tesla T4", memory_mib=15360),
)


def converted(document: JSON, **more: Any) -> Conversion:
    """The conversion of a pod that is converted."""
    found = asked(document, **more)
    assert found is not None
    return found


def asked(document: JSON, **more: Any) -> Conversion | None:
    """What conversion says."""
    given: JSON = {
        "identity": "u",
        "settings": ConversionSettings(),
        "stock": STOCK,
        "classes": {},
        **more,
    }
    return convert(document, **given)


def devices_of(found: Conversion) -> JSON:
    """`spec.devices` of the one template."""
    (template,) = found.templates
    devices: JSON = template["spec"]["spec"]["devices"]
    return devices


def amounts_of(found: Conversion) -> list[JSON]:
    """What each request asks for."""
    return [one["exactly"].get("capacity", {}).get("requests", {}) for one in devices_of(found)["requests"]]
