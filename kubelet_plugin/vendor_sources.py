"""Which vendors this agent asks for cards.

Flow: with a simulated node, those of its file, read again when it changes; otherwise those of
`driver.vendors.registry` whose hardware is on the PCI bus at the moment, so that no other one is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from driver.errors import ConfigError
from driver.host import Host
from driver.vendors.base import Vendor
from driver.vendors.registry import NodeVendors
from kubelet_plugin.settings import Settings

VendorSource = Callable[[], Sequence[Vendor]]
"""The vendors to ask now; may read files; raises ConfigError."""


def vendor_source(settings: Settings, *, host: Host) -> VendorSource:
    """The vendors that the settings call for."""
    if settings.simulated_node:
        return SimulatedVendors(Path(settings.simulated_node))
    return NodeVendors(driver_root=str(settings.driver_root), host=host)


class SimulatedVendors:
    """The vendors of a simulated node's file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._vendors: Sequence[Vendor] = ()

    def __call__(self) -> Sequence[Vendor]:
        """The vendors.

        Raises:
            ConfigError: The file is missing or does not describe a node.
        """
        import yaml  # noqa: PLC0415 - only simulated nodes are YAML

        from driver.vendors.simulated import parse_simulated_node, simulated_vendors  # noqa: PLC0415

        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._stamp:
                return self._vendors
            document = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as unreadable:
            raise ConfigError(
                f"{self._path} cannot be read: {unreadable}.",
                field="--simulated-node (DRAGOMAN_SIMULATED_NODE)",
                remedy="Write a SimulatedNode as YAML.",
            ) from None
        self._vendors = simulated_vendors(parse_simulated_node(document, field=self._path.name))
        self._stamp = stamp
        return self._vendors
