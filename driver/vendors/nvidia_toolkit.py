"""Edits from the CDI spec that NVIDIA's Container Toolkit has written for this node.

Purpose: where an administrator runs the toolkit, its spec knows the installation best (hooks, graphics,
platform peculiarities); `nvidia.py` takes its edits and only makes its own where there are none that fit.

Flow: read the specs of kind `nvidia.com/gpu` -> find the entry of one card -> check that it still fits the
running driver and the card's present minor number -> `ContainerEdits`, or a sentence why not.

Limits: entries are matched by UUID, or by the one device node `/dev/nvidiaN` that they hold; their names may
be numbers from before a reboot. A spec that uses what our edits cannot say is not used at all, rather than in
part.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driver.cdi import ContainerEdits, DeviceNode, Hook, Mount
from driver.host import Host

SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")
TOOLKIT_KIND = "nvidia.com/gpu"

_CARD_NODE = re.compile(r"/dev/nvidia(\d+)")
_CAPABILITIES = "/nvidia-caps/"
_KNOWN = frozenset({"env", "deviceNodes", "mounts", "hooks"})


class UnusableSpecError(Exception):
    """A spec of the toolkit is there, but does not fit; the message says why."""


class ToolkitSpecs:
    """Reads the toolkit's specs; a file that did not change is not parsed again."""

    def __init__(self, folders: Sequence[str] = SPEC_DIRS) -> None:
        self._folders = tuple(folders)
        self._parsed: dict[str, tuple[str, Any]] = {}

    def edits(self, *, uuid: str, minor: int, host: Host) -> ContainerEdits | None:
        """The toolkit's edits for a card; None where there is no spec of the toolkit.

        Raises:
            UnusableSpecError: There is one, but it has no entry for this card, or is not of this driver.
        """
        problems: list[str] = []
        for path, document in self._documents(host):
            try:
                return _edits(document, uuid=uuid, minor=minor, host=host)
            except UnusableSpecError as unusable:
                problems.append(f"{path}: {unusable}")
        if problems:
            raise UnusableSpecError(" ".join(problems))
        return None

    def _documents(self, host: Host) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for folder in self._folders:
            for name in host.list_dir(folder):
                if not name.startswith("nvidia") or not name.endswith((".yaml", ".yml", ".json")):
                    continue
                path = posixpath.join(folder, name)
                document = self._parse(path, host)
                if isinstance(document, Mapping) and document.get("kind") == TOOLKIT_KIND:
                    yield path, document

    def _parse(self, path: str, host: Host) -> Any:
        try:
            text = host.read_text(path)
        except OSError:
            # Gone between listing and reading: the toolkit replaces it.
            return None
        known = self._parsed.get(path)
        if known is not None and known[0] == text:
            return known[1]
        import yaml  # noqa: PLC0415 - 0.9 MiB, and most nodes have no such spec

        # The C loader takes 3 ms for a spec of 500 lines, the Python one 60 ms; not every PyYAML has it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            document = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
        except yaml.YAMLError:
            document = None
        self._parsed[path] = (text, document)
        return document


def _edits(document: Mapping[str, Any], *, uuid: str, minor: int, host: Host) -> ContainerEdits:
    devices = [entry for entry in document.get("devices") or [] if isinstance(entry, Mapping)]
    entry = _entry(devices, uuid=uuid, minor=minor)
    if entry is None:
        raise UnusableSpecError(f"no entry is for card {uuid} at /dev/nvidia{minor}.")
    found = _read(document.get("containerEdits") or {}) + _read(entry.get("containerEdits") or {})
    missing = [path for path in _host_paths(found) if not host.exists(path)]
    if missing:
        raise UnusableSpecError(f"it names {missing[0]}, which is not there (of another driver version?).")
    return found


def _entry(devices: Sequence[Mapping[str, Any]], *, uuid: str, minor: int) -> Mapping[str, Any] | None:
    # Entries of MIG instances hold the card's node as well, and what opens the instance.
    fitting = [entry for entry in devices if _card_nodes(entry) == {minor} and not _has_capabilities(entry)]
    by_uuid = [entry for entry in fitting if str(entry.get("name", "")).lower() == uuid.lower()]
    return next(iter(by_uuid or fitting), None)


def _has_capabilities(entry: Mapping[str, Any]) -> bool:
    nodes = (entry.get("containerEdits") or {}).get("deviceNodes") or []
    return any(_CAPABILITIES in str(node.get("path", "")) for node in nodes if isinstance(node, Mapping))


def _card_nodes(entry: Mapping[str, Any]) -> set[int]:
    nodes = (entry.get("containerEdits") or {}).get("deviceNodes") or []
    matches = (_CARD_NODE.fullmatch(str(node.get("path", ""))) for node in nodes if isinstance(node, Mapping))
    return {int(match.group(1)) for match in matches if match}


def _read(edits: Mapping[str, Any]) -> ContainerEdits:
    unknown = sorted(key for key, value in edits.items() if value and key not in _KNOWN)
    if unknown:
        raise UnusableSpecError(f"it uses {', '.join(unknown)}, which cannot be carried over.")
    try:
        return ContainerEdits(
            env=dict(str(entry).split("=", 1) for entry in edits.get("env") or []),
            device_nodes=tuple(_node(node) for node in edits.get("deviceNodes") or []),
            mounts=tuple(_mount(mount) for mount in edits.get("mounts") or []),
            hooks=tuple(_hook(hook) for hook in edits.get("hooks") or []),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as malformed:
        raise UnusableSpecError(f"it is not a CDI spec ({malformed!r}).") from None


def _node(node: Mapping[str, Any]) -> DeviceNode:
    path, host_path = str(node["path"]), str(node.get("hostPath") or "")
    return DeviceNode(
        path=path,
        host_path="" if host_path == path else host_path,
        permissions=str(node.get("permissions") or ""),
    )


def _mount(mount: Mapping[str, Any]) -> Mount:
    return Mount(
        host_path=str(mount["hostPath"]),
        container_path=str(mount["containerPath"]),
        options=tuple(str(option) for option in mount.get("options") or ("ro", "nosuid", "nodev", "bind")),
    )


def _hook(hook: Mapping[str, Any]) -> Hook:
    return Hook(
        hook_name=str(hook["hookName"]),
        path=str(hook["path"]),
        args=tuple(str(word) for word in hook.get("args") or ()),
        env=tuple(str(entry) for entry in hook.get("env") or ()),
    )


def _host_paths(edits: ContainerEdits) -> Iterator[str]:
    yield from (node.host_path or node.path for node in edits.device_nodes)
    yield from (mount.host_path for mount in edits.mounts)
    yield from (hook.path for hook in edits.hooks)
