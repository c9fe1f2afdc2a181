"""The method `hardware` as the settings call for it."""

from __future__ import annotations

from collections.abc import Callable

from driver.isolation.hardware import Hardware
from driver.partitions.base import Partitioner
from kubelet_plugin.partitions.notes import FileNotes
from kubelet_plugin.prepare.cdi_files import CdiFiles
from kubelet_plugin.settings import Settings


def make_hardware(settings: Settings, *, partitioner: Callable[[str, str], Partitioner | None]) -> Hardware:
    """The method that makes partitions; what a killed agent left half written goes.

    Raises:
        NodeStorageError: The state folder cannot be read.
    """
    notes = FileNotes(settings.state_dir / "partitions")
    notes.clean()
    return Hardware(partitioner, notes=notes, withdraw=CdiFiles(settings.cdi_dir).remove)
