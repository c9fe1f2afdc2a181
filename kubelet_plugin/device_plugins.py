"""Cards that a device plugin offers as well: they are not offered a second time.

Purpose: a node can be moved from a device plugin (NVIDIA's, HAMi's, Volcano's, a vendor's) to Dragoman while
both are installed. As long as the plugin offers the cards of a vendor, or pods still hold some that it gave
them, the cards of that vendor stay out of the ResourceSlices; what runs is left alone.

Flow: the kubelet is asked what device plugins offer and what pods hold (PodResources API v1) -> `why_not` is
asked for each card by the inventory, which looks again when the answer changed. What was seen is kept in a
file, because after a boot the agent is often there before the plugin.

Limits: a vendor's cards are offered by one of the two, never some by each. A plugin counts for `SETTLE_S`
seconds after it was last seen, in the agent's own time: one that comes back later than that after a boot
finds its cards offered. Names are those of `driver.vendors`; a plugin that offers cards by another name is
not noticed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module

import structlog

from driver.errors import StateError
from driver.host import Host
from kubelet_plugin.pod_resources import DevicePluginUse
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

SETTLE_S = 300.0
"""So long are cards withheld after their plugin, and the last pod with one of its devices, were seen."""
_EVERY_S = 10.0
_FIRST_PATIENCE_S = 10.0
_FIRST_EVERY_S = 0.5
_LARGEST_FILE = 65536

Ask = Callable[[], Awaitable[DevicePluginUse | None]]


class DevicePlugins:
    """What device plugins offer on this node, and which vendors' cards are withheld for it."""

    def __init__(
        self,
        ask: Ask,
        *,
        file: str,
        host: Host,
        changed: Callable[[], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Reads what was seen before.

        Args:
            ask: Asks the kubelet; None for no answer.
            file: Path of the file that survives a restart.
            host: Where it is.
            changed: Called when other cards are to be withheld than before.
            clock: Seconds of a clock that does not jump; the event loop's if None.
        """
        self._ask = ask
        self._file = file
        self._host = host
        self._changed = changed
        self._clock = clock
        self._seen: dict[str, float] = {}
        self._remembered = self._read()
        self._now = DevicePluginUse()
        self._names: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {}

    def why_not(self, vendor: str) -> str:
        """Why cards of a vendor are not to be offered; "" if they may be."""
        # Until the kubelet answers, what was there before the restart counts: it may be slow after a boot.
        for name in sorted(self._seen.keys() | self._remembered):
            if not self._is_of(name, vendor):
                continue
            if name in self._now.offered:
                return f"A device plugin offers {name} here; take it off this node to hand its cards over."
            if name in self._now.held:
                return f"Pods still hold {name} that a device plugin gave them."
            return (
                f"A device plugin offered {name} here until a moment ago; its cards are offered once it was "
                f"gone for {SETTLE_S:g} s."
            )
        return ""

    async def first(self) -> None:
        """Waits for the kubelet's first answer, for a bounded time: cards must not be offered in between."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _FIRST_PATIENCE_S
        while not await self.look():
            if loop.time() > until:
                log.warning(
                    "the kubelet does not say what device plugins offer; cards are offered all the same"
                )
                return
            await asyncio.sleep(_FIRST_EVERY_S)

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.look()

    async def look(self) -> bool:
        """Asks the kubelet once; whether it answered."""
        answer = await self._ask()
        if answer is None:
            return False
        before = self._verdicts()
        now = self._time()
        for name in self._remembered:
            self._seen.setdefault(name, now)
        self._remembered = frozenset()
        self._now = answer
        for name in answer.offered | answer.held:
            self._seen[name] = now
        kept = {name: seen for name, seen in self._seen.items() if now - seen < SETTLE_S}
        names_changed = kept.keys() != self._seen.keys() or not self._is_written(kept)
        self._seen = kept
        if names_changed:
            # It waits for the disk.
            await in_daemon_thread(self._write, name="device plugins")
        if self._verdicts() != before:
            self._changed()
        return True

    def _verdicts(self) -> Mapping[str, tuple[bool, bool]]:
        return {name: (name in self._now.offered, name in self._now.held) for name in self._seen}

    def _is_of(self, name: str, vendor: str) -> bool:
        if vendor not in self._names:
            self._names[vendor] = _names_of(vendor)
        exact, prefixes = self._names[vendor]
        return name in exact or name.startswith(prefixes)

    def _time(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    # The file: names only. Since when is of no use to the next process, whose clock is another one.

    def _is_written(self, kept: Mapping[str, float]) -> bool:
        return frozenset(kept) == self._written

    def _read(self) -> frozenset[str]:
        self._written: frozenset[str] = frozenset()
        try:
            found = json.loads(self._host.read_text(self._file, limit=_LARGEST_FILE))
            self._written = frozenset(str(name) for name in found["seen"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, StateError) as unreadable:
            log.warning("what device plugins offered before cannot be read", error=str(unreadable))
        return self._written

    def _write(self) -> None:
        names = sorted(self._seen)
        try:
            self._host.replace_text(self._file, json.dumps({"seen": names}))
        except OSError as failed:
            log.warning("what device plugins offer cannot be written", error=str(failed))
            return
        self._written = frozenset(names)


def _names_of(vendor: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names, and beginnings of names, by which device plugins offer a vendor's cards."""
    # Loaded for vendors that the node has cards of, and only where some plugin offers anything.
    module = "nvidia_facts" if vendor == "nvidia" else vendor
    try:
        facts = import_module(f"driver.vendors.{module}").FACTS
    except ModuleNotFoundError:
        return frozenset(), ()
    exact = frozenset(name for entry in facts.legacy for name in entry.names)
    return exact, (*facts.plugin_prefixes, *facts.offered_as)
