"""CDI spec documents: from a device's name and its edits to the text of the file that a runtime reads.

Purpose: one place that knows the format: names, the lowest version that holds what a document uses, and the
order in which things are written, so that the same share always gives the same bytes.

Flow: `device_name_of` -> {name: ContainerEdits} -> `spec_document` -> `serialise` -> the agent's file;
`qualified_name` is what the kubelet hands to the runtime.

Source of the rules: CDI specification 0.3.0 to 1.1.0, and the minimum versions that its reference
implementation asks for when it loads a spec (`specs-go`, `MinimumRequiredVersion`). Older runtimes refuse a
document that states a version they do not know, so the lowest one that holds is written.

Limits: only the fields of `ContainerEdits`; nothing here reads spec files or knows of other vendors' kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from driver.cdi.edits import ContainerEdits, DeviceNode, Hook, Mount
from driver.errors import InvalidInputError

CDI_KIND = "dragoman.dev/share"
"""Kind of all our CDI devices."""

BASE_VERSION = "0.3.0"
"""The oldest version that runtimes with CDI support read."""

DEVICE_VERSION = "0.5.0"
"""First version with `hostPath` on device nodes and with device names that start with a digit."""

_DEVICE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_HOOK_NAMES = frozenset(
    {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
)
_PERMISSIONS = re.compile(r"[rwm]{0,3}")


def device_name_of(*, claim_uid: str, request: str, device: str, share_id: str = "") -> str:
    """Name of the CDI device of one allocated result: the same for the same result, different for others.

    The parts are joined by dots, which none of them can hold: a claim's UID and a share's ID are UUIDs,
    request and device names are DNS labels. `request/subrequest` becomes `request_subrequest`, as no DNS
    label holds an underscore either.
    """
    parts = [claim_uid, request.replace("/", "_"), device]
    if share_id:
        parts.append(share_id)
    name = ".".join(parts)
    check_device_name(name)
    return name


def check_device_name(name: str) -> None:
    """Refuses what is not a CDI device name.

    Raises:
        InvalidInputError: Letters, digits, `_`, `-`, `.` and `:` are allowed; a letter or digit at both ends.
    """
    if not _DEVICE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} cannot be the name of a CDI device.",
            field="devices[].name",
            remedy="Use letters, digits, '_', '-', '.' and ':', with a letter or digit at both ends.",
        )


def qualified_name(name: str) -> str:
    """The CDI id that the kubelet hands to the runtime: `dragoman.dev/share=<name>`."""
    return f"{CDI_KIND}={name}"


def spec_document(devices: Mapping[str, ContainerEdits]) -> dict[str, Any]:
    """The CDI spec document of these devices, as JSON data.

    Args:
        devices: Device name to what a container needs; at least one.

    Raises:
        InvalidInputError: A name or an edit cannot be in a CDI spec, or a device edits nothing (runtimes
            refuse the whole file then).
    """
    if not devices:
        raise InvalidInputError("A CDI spec holds at least one device.", field="devices")
    for name, edits in devices.items():
        check_device_name(name)
        _check_edits(edits, name=name)
    return {
        "cdiVersion": required_version(devices),
        "kind": CDI_KIND,
        "devices": [{"name": name, "containerEdits": _edits(devices[name])} for name in sorted(devices)],
    }


def required_version(devices: Mapping[str, ContainerEdits]) -> str:
    """The lowest CDI version that holds what these devices use."""
    # Of the later additions (mount types 0.4.0, annotations 0.6.0, group ids and RDT 0.7.0) we write none.
    digit_first = any(name[:1].isdigit() for name in devices)
    host_path = any(node.host_path for edits in devices.values() for node in edits.device_nodes)
    return DEVICE_VERSION if digit_first or host_path else BASE_VERSION


def serialise(document: Mapping[str, Any]) -> bytes:
    """The document as JSON text on one line: the same document always gives the same bytes.

    Not indented: Python does that by itself instead of in C, which was a tenth of a prepare (measured).
    """
    return (json.dumps(document, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _check_edits(edits: ContainerEdits, *, name: str) -> None:
    if not (edits.env or edits.device_nodes or edits.mounts or edits.hooks):
        raise InvalidInputError(f"CDI device {name} edits nothing.", field="devices[].containerEdits")
    for variable, value in edits.env.items():
        if not variable or "=" in variable or "\0" in variable + value:
            raise InvalidInputError(f"{variable!r} cannot be an environment variable.", field="env")
    for path in _paths(edits):
        if not path.startswith("/"):
            raise InvalidInputError(f"{path!r} is not an absolute path.", field="containerEdits")
    for node in edits.device_nodes:
        if not _PERMISSIONS.fullmatch(node.permissions):
            raise InvalidInputError(
                f"{node.permissions!r} are not permissions of a device node.", field="permissions"
            )
    for hook in edits.hooks:
        if hook.hook_name not in _HOOK_NAMES:
            raise InvalidInputError(f"{hook.hook_name!r} is not an OCI hook.", field="hookName")


def _paths(edits: ContainerEdits) -> Iterable[str]:
    for node in edits.device_nodes:
        yield node.path
        if node.host_path:
            yield node.host_path
    for mount in edits.mounts:
        yield mount.host_path
        yield mount.container_path
    for hook in edits.hooks:
        yield hook.path


def _edits(edits: ContainerEdits) -> dict[str, Any]:
    # Hooks run in the order that was asked for; everything else is a set, and a fixed order keeps the bytes.
    found: dict[str, Any] = {
        "env": [f"{name}={edits.env[name]}" for name in sorted(edits.env)],
        "deviceNodes": [_node(node) for node in sorted(edits.device_nodes)],
        "mounts": [_mount(mount) for mount in sorted(edits.mounts)],
        "hooks": [_hook(hook) for hook in edits.hooks],
    }
    return {key: value for key, value in found.items() if value}


def _node(node: DeviceNode) -> dict[str, Any]:
    found = {"path": node.path, "hostPath": node.host_path, "permissions": node.permissions}
    return {key: value for key, value in found.items() if value}


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "hostPath": mount.host_path,
        "containerPath": mount.container_path,
        "options": list(mount.options),
    }


def _hook(hook: Hook) -> dict[str, Any]:
    found: dict[str, Any] = {
        "hookName": hook.hook_name,
        "path": hook.path,
        "args": list(hook.args),
        "env": list(hook.env),
    }
    return {key: value for key, value in found.items() if value}
