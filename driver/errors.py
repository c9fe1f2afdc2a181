"""Every refusal that Dragoman utters, as one tree.

Purpose: whoever refuses something (a selector, a config, a prepare) raises one of these, and whoever reports
it (Event, condition, gRPC answer, metric, terminal) needs no other knowledge than the four fields below.

Flow: pure code raises; the edge turns the exception into text with `str(error)`, into a metric label or a
condition with `error.reason`, and into a retry decision with `error.retriable`.

Limits: `reason` is a stable, public word: renaming one breaks dashboards and the docs' anchors.

    DragomanError
    ├── InvalidInputError       what somebody wrote cannot mean anything
    │   ├── QuantityError
    │   ├── SelectorError       CEL: does not compile, raises, or is not supported yet
    │   ├── ConfigError         ShareConfig, AcceleratorPolicy, simulated node files
    │   └── ...                 subclasses may live beside the code that raises them
    ├── AllocationError         no card fits, or the problem cannot be decided
    ├── PrepareError            the node refuses a claim
    │   ├── ClaimError          the claim is missing, not allocated, replaced, for another node
    │   ├── DeviceGoneError
    │   └── OverCommitError
    ├── IsolationError          a limit cannot be put in force
    ├── StateError              a file of ours is unreadable or newer than we are
    └── KubeError               the API server refused or did not answer (driver.kube)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

_SHOWN = 80


def shown(value: object) -> str:
    """A value of somebody's document for a sentence: short, and in the words of YAML and JSON."""
    if isinstance(value, Mapping):
        return "An object"
    if isinstance(value, list | tuple):
        return "A list"
    if isinstance(value, bool) or value is None:
        return spelled(value)
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "A number"
    written = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return written if len(written) <= _SHOWN else f"{written[: _SHOWN - 1]}…"


def spelled(value: object) -> str:
    """A value of somebody's document as a text, as YAML and JSON spell it: `null`, `true`, `4Gi`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class DragomanError(Exception):
    """A refusal that a person can act on.

    Attributes:
        reason: CamelCase word, stable; condition reason, Event reason, metric label, anchor in the docs.
        field: Path of the offending field as a Kubernetes user would write it, or "" where none applies.
        message: What is wrong, as a sentence without the field's name in front.
        remedy: What to do about it, as a sentence; "" where nothing can be advised.
        retriable: True where waiting helps (a release is under way); False where the pod must be made anew.
    """

    reason: ClassVar[str] = "Error"
    retriable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        self.message = message
        self.field = field
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        stop = "" if self.message.endswith((".", "!", "?", ")")) or not self.remedy else "."
        advice = f"{stop} {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{advice}"


class InvalidInputError(DragomanError):
    """What somebody wrote cannot be accepted as it stands."""

    reason = "InvalidInput"


class QuantityError(InvalidInputError):
    """A text is not a Kubernetes quantity, or is outside the range that is safe to compute with."""

    reason = "InvalidQuantity"


class SelectorError(InvalidInputError):
    """A CEL selector does not compile, raises on a device, or uses what is not supported yet."""

    reason = "InvalidSelector"


class ConfigError(InvalidInputError):
    """Opaque parameters, a policy or a file of the administrator are not valid."""

    reason = "InvalidConfig"


class AllocationError(DragomanError):
    """A claim cannot be allocated, or the question cannot be decided."""

    reason = "CannotAllocate"


class PrepareError(DragomanError):
    """The node refuses to prepare a claim."""

    reason = "PrepareRefused"


class ClaimError(PrepareError):
    """The claim itself is not in a state that can be prepared here."""

    reason = "ClaimNotReady"


class DeviceGoneError(PrepareError):
    """The claim was given a card that this node does not have (any more)."""

    reason = "DeviceGone"


class OverCommitError(PrepareError):
    """The card has not enough left, whoever allocated; the last guard of invariant 1."""

    reason = "OverCommit"


class OverCommitReleasingError(OverCommitError):
    """The same, but what stands in the way is being released: waiting helps."""

    reason = "WaitingForRelease"
    retriable = True


class IsolationError(DragomanError):
    """A limit cannot be put in force, so the share is not given out (invariant 2)."""

    reason = "IsolationUnavailable"


class StateError(DragomanError):
    """A file that we wrote cannot be used: damaged, or written by a newer version."""

    reason = "StateUnreadable"


class KubeError(DragomanError):
    """The API server refused a request or did not answer it."""

    reason = "ApiServer"
    retriable = True
