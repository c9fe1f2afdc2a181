"""What is known of the cards' faults, kept over a restart of the agent.

Purpose: a driver reports an XID once. Without this file every restart of the agent (an upgrade is one) would
call the card well again.

Limits: a reboot resets cards and the clock by which times are kept, so what was kept under another boot is
forgotten. A file that cannot be read is
as good as none: what is wrong now is asked for anyway. Blocks; for threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from driver.errors import DragomanError
from driver.host import Host
from kubelet_plugin.prepare.durable import stage, sync_folder

log = structlog.get_logger(__name__)

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MOST_BYTES = 1 << 20


class HealthFile:
    """The file.

    Args:
        path: Where it lies; its folder is made if it is missing.
        host: The node.
    """

    def __init__(self, path: Path, *, host: Host) -> None:
        self._path = path
        self._host = host

    def read(self) -> Mapping[str, Any]:
        """What was kept under this boot; {} for nothing."""
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(_MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as unreadable:
            log.warning(
                "the cards' faults of before cannot be read", file=str(self._path), error=str(unreadable)
            )
            return {}
        if not isinstance(document, dict) or document.get("boot") != self._boot():
            return {}
        cards = document.get("cards")
        return cards if isinstance(cards, dict) else {}

    def write(self, cards: Mapping[str, Any]) -> None:
        """Keeps this; a disk that refuses is logged, since the cards' health is told all the same."""
        content = json.dumps({"boot": self._boot(), "cards": cards}).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with stage(self._path, content, mode=0o600) as staged:
                staged.publish()
            sync_folder(self._path.parent)
        except (OSError, DragomanError) as refused:
            log.warning("the cards' faults cannot be kept", file=str(self._path), error=str(refused))

    def _boot(self) -> str:
        try:
            return self._host.read_text(_BOOT_ID, limit=64).strip()
        except OSError:
            return ""
