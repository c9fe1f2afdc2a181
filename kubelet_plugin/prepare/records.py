"""What the agent remembers of a prepared claim, and the bytes of its file.

Purpose: from a record alone the agent answers a repeated prepare, rebuilds the CDI file and undoes a claim
whose object is gone.

The file is one JSON object whose head has a fixed length, so that the checksum is over bytes and not over
somebody's idea of canonical JSON:

    {"checksum":"sha256:<64 hex digits>","record":{...}}

Versions: fields are only ever added, unknown ones are passed over, and a record is written once and never
changed, so what a newer version wrote survives a downgrade. A version whose records older ones must not read
raises `minReader`; older ones then leave the file alone and keep what it may hold reserved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from driver.cards import IsolationLevel
from driver.cdi.spec import qualified_name
from driver.errors import StateError
from driver.shares import Share

SCHEMA_VERSION = 1
"""What this version writes and the highest `minReader` that it reads."""

_HEAD = b'{"checksum":"sha256:'
_MIDDLE = b'","record":'
_BODY = len(_HEAD) + 64 + len(_MIDDLE)
_TAIL = b"}\n"

CLAIM_UID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""A UID becomes part of file names and CDI device names, so it may hold nothing else."""


class StateDamagedError(StateError):
    """A file of ours does not hold what we wrote."""

    reason: ClassVar[str] = "StateDamaged"


class StateNewerError(StateError):
    """A file was written by a version that says that we must not read it."""

    reason: ClassVar[str] = "StateNewer"


@dataclass(frozen=True, kw_only=True)
class ShareRecord:
    """One result of a prepared claim.

    Attributes:
        share: What was given.
        pool: Pool of the result.
        cdi_device: Name of the CDI device, without the kind.
        index: Position of the card in the container's own view, for limits that are keyed by it.
        core_policy: `force`, `default` or `disable`.
        priority: `high` or `low` as its author says; "" where nobody does.
        memory_level: Which kind of method holds the memory limit; None where there is none to hold.
        cores_level: The same for the cap on compute.
    """

    share: Share
    pool: str
    cdi_device: str
    index: int = 0
    core_policy: str = "force"
    priority: str = ""
    memory_level: IsolationLevel | None = None
    cores_level: IsolationLevel | None = None

    @property
    def cdi_id(self) -> str:
        """The CDI device as the kubelet passes it to the runtime."""
        return qualified_name(self.cdi_device)


@dataclass(frozen=True, kw_only=True)
class ClaimRecord:
    """A prepared claim.

    Attributes:
        uid: UID of the claim.
        namespace: Its namespace.
        name: Its name.
        allocation: Fingerprint of the part of the allocation that is ours.
        shares: One for each result.
        warnings: Sentences about limits that are not in force although asked for (FailOpen).
        prepared: When it was prepared first: RFC 3339 in UTC, whole seconds; "" by earlier versions.
    """

    uid: str
    namespace: str
    name: str
    allocation: str
    shares: tuple[ShareRecord, ...]
    warnings: tuple[str, ...] = ()
    prepared: str = ""


def encode(record: ClaimRecord) -> bytes:
    """The bytes of a record's file."""
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "minReader": SCHEMA_VERSION,
        "claim": {"namespace": record.namespace, "name": record.name, "uid": record.uid},
        "allocation": record.allocation,
        "shares": [_encode_share(share) for share in record.shares],
        "warnings": list(record.warnings),
        "prepared": record.prepared,
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + _TAIL


def decode(content: bytes, *, uid: str) -> ClaimRecord:
    """Reads a record's file.

    Args:
        content: The file's bytes.
        uid: UID that the file's name says.

    Raises:
        StateDamagedError: The bytes are not those that were written, or not a record of this claim.
        StateNewerError: A newer version forbids this one to read it.
    """
    try:
        document = _checked_body(content, uid=uid)
        if int(document["minReader"]) > SCHEMA_VERSION:
            raise StateNewerError(
                f"The record of claim {uid} was written by a newer version of the agent.",
                remedy="Run that version again, or drain the node and remove the record.",
            )
        claim = document["claim"]
        record = ClaimRecord(
            uid=claim["uid"],
            namespace=claim["namespace"],
            name=claim["name"],
            allocation=document["allocation"],
            shares=tuple(_decode_share(share, uid=uid) for share in document["shares"]),
            warnings=tuple(document["warnings"]),
            prepared=str(document.get("prepared") or ""),
        )
    except (KeyError, TypeError, ValueError) as wrong:
        raise StateDamagedError(f"The record of claim {uid} cannot be read: {wrong!r}.") from wrong
    if record.uid != uid:
        raise StateDamagedError(f"The record of claim {uid} is that of claim {record.uid}.")
    return record


def devices_named(content: bytes, *, uid: str) -> frozenset[str] | None:
    """The cards that a record names which this version must not read; None where nobody can be sure.

    Bytes that do not match their checksum are not asked: the name of a card may be what was damaged.
    """
    try:
        document = _checked_body(content, uid=uid)
        if document["claim"]["uid"] != uid:
            return None
        names = frozenset(str(share["device"]) for share in document["shares"])
    except (StateDamagedError, KeyError, TypeError, ValueError):
        return None
    return names or None


def _checked_body(content: bytes, *, uid: str) -> dict[str, Any]:
    body = content[_BODY : -len(_TAIL)]
    head = _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE
    if content != head + body + _TAIL:
        raise StateDamagedError(f"The record of claim {uid} does not match its checksum.")
    document: dict[str, Any] = json.loads(body)
    return document


_SHARE_KEYS = {
    "request": "request",
    "device": "device",
    "shareID": "share_id",
    "memoryMiB": "memory_mib",
    "coresPercent": "cores_percent",
    "whole": "whole",
    "memoryReserved": "memory_reserved",
    "admin": "admin",
}
_ADDED = {"memoryReserved": False, "priority": ""}
"""Keys that records of earlier versions lack, and what that means."""

_HOW_KEYS = {
    "pool": "pool",
    "cdiDevice": "cdi_device",
    "index": "index",
    "corePolicy": "core_policy",
    "priority": "priority",
    "memoryIsolation": "memory_level",
    "coresIsolation": "cores_level",
}


def _encode_share(record: ShareRecord) -> dict[str, Any]:
    document = {key: getattr(record.share, name) for key, name in _SHARE_KEYS.items()}
    return document | {key: getattr(record, name) for key, name in _HOW_KEYS.items()}


def _decode_share(document: Mapping[str, Any], *, uid: str) -> ShareRecord:
    share = Share(claim_uid=uid, **{name: _typed(document, key, name) for key, name in _SHARE_KEYS.items()})
    how = {name: _typed(document, key, name) for key, name in _HOW_KEYS.items()}
    return ShareRecord(share=share, **how)


def _typed(document: Mapping[str, Any], key: str, name: str) -> Any:
    value = document.get(key, _ADDED[key]) if key in _ADDED else document[key]
    if name in ("memory_level", "cores_level"):
        return None if value is None else IsolationLevel(value)
    wanted = _TYPES.get(name, str)
    if type(value) is not wanted:
        raise TypeError(f"{key} is {value!r}")
    return value


_TYPES: Mapping[str, type] = {
    "memory_mib": int,
    "cores_percent": int,
    "index": int,
    "whole": bool,
    "memory_reserved": bool,
    "admin": bool,
}
