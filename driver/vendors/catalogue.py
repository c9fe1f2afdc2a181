"""What is known of all vendors, for documents, DeviceClasses and conversion; agents do not load it.

Flow: `FACTS` of each vendor's file, in the order of `driver.vendors.registry`.
"""

from __future__ import annotations

from importlib import import_module

from driver.vendors.facts import VendorFacts
from driver.vendors.nvidia_facts import FACTS as NVIDIA
from driver.vendors.registry import ENTRIES


def _facts(module: str) -> VendorFacts:
    found: VendorFacts = import_module(f"driver.vendors.{module}").FACTS
    return found


VENDORS: tuple[VendorFacts, ...] = (NVIDIA, *(_facts(entry.module) for entry in ENTRIES))
"""Vendors whose hardware is supported: NVIDIA, then by name."""
