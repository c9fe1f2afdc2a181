"""Limits by NVIDIA's Multi-Process Service (MPS), protocol 3: a namespace of one daemon for each share.

Purpose: `nvidia-cuda-mps-control` lets a process have no more than so much of a card's memory and threads. A
program joins by the socket that `CUDA_MPS_PIPE_DIRECTORY` leads to; each share has a socket of its own, and
only this one is mounted into its containers.

Flow: `edits` asks the node's supervisor of MPS (the seam `MpsNode`) for the share's namespace and returns
only when the daemon itself has said that its limits are set; `in_force` compares the daemon's list of clients
with a process; `undo` gives the namespace back. Whether limits are still there is looked after by
`kubelet_plugin.mps.watch`.

Decided here:
* Protocol 3 only (driver 615 and later). The older one knows one set of limits for a daemon: each share would
  need a daemon and a server of its own, which take turns on the card instead of running side by side, and
  what a daemon holds could not be compared, since it was seen to print 1500M as 1G.
* Every limit of MPS is one of each *process*. Two processes of a container have twice the budget. So this
  method does not claim to hold memory, unless an administrator says that containers of one process are good
  enough; it is set all the same. The cap on compute is claimed, and `in_force` says no where a second process
  is connected.

Limits:
* Cooperative. A program that unsets the variable runs without MPS, and so does, without a word, one that
  starts while the daemon is away: `in_force` tells both. It is not a security boundary.
* A fault of one process ends all others on the card, whatever their shares.
* Never run with NVIDIA's own daemon; see docs/isolation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits, Mount
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload_seen import ENDED, HIDDEN, MAX_MAPS_BYTES, TOO_LARGE, UNUSED
from driver.isolation.service_shares import GPU_UUID, MpsShare, mps_share, namespace_name
from driver.shares import Share

CONTAINER_PIPE_DIR = "/usr/local/dragoman/mps"
"""Where the container finds its socket; the same in all shares, as CDI knows no containers."""

FIRST_DRIVER = 615
"""The first release of NVIDIA's driver whose MPS speaks protocol 3."""

LIMITS_LOST = "LimitsLost"
"""Reason where the daemon does not hold what was set."""


class MpsTooOldError(IsolationError):
    """The node's driver has no MPS of protocol 3."""

    reason: ClassVar[str] = "MpsTooOld"


class MpsUnavailableError(IsolationError):
    """The node's MPS daemon does not hold the limits (yet): waiting helps."""

    reason: ClassVar[str] = "MpsUnavailable"
    retriable: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class MpsClient:
    """A process that is connected to the daemon: its number in the node's own count, and its namespace."""

    pid: int
    server: str
    namespace: str


@dataclass(frozen=True, kw_only=True)
class MpsState:
    """What the daemon said when it was last asked.

    Attributes:
        problem: Why nothing can be said about any share, as a sentence; "" if the daemon answers.
        unheld: For namespaces whose limits are not in force, why, as a sentence.
        folders: For namespaces that are in force, the node's folder that holds the socket.
        clients: Everybody who is connected.
        restarts: How often the daemon was started again since the supervisor runs.
    """

    problem: str = ""
    unheld: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    clients: Sequence[MpsClient] = ()
    restarts: int = 0

    def why_not(self, name: str) -> str:
        """Why a namespace's limits are not in force; "" if they are."""
        if self.problem:
            return self.problem
        if name in self.folders:
            return ""
        return self.unheld.get(name) or "The MPS daemon does not know this share."


class MpsNode(Protocol):
    """MPS on this node: what is wanted of it is kept by us, what holds is the daemon's word."""

    def put(self, share: MpsShare) -> None:
        """Notes durably that a share's namespace is wanted.

        Raises:
            DragomanError: The disk refuses.
        """

    def drop(self, claim_uid: str, name: str) -> None:
        """Notes that a namespace is wanted no more; no error if it was not."""

    def drop_claim(self, claim_uid: str) -> None:
        """The same for all namespaces of a claim."""

    def claims(self) -> frozenset[str]:
        """UIDs of the claims of which a namespace is wanted."""

    def state(self, *, fresh: bool = True) -> MpsState:
        """Makes the daemon do what is wanted, as far as it can, and says what holds; never raises.

        Args:
            fresh: False where what it said a moment ago will do.
        """


class Service:
    """MPS as an isolation method.

    Args:
        node: MPS on this node.
        holds_memory: An administrator takes a limit for each process for one of the share.
    """

    level = IsolationLevel.SERVICE

    def __init__(self, node: MpsNode, *, holds_memory: bool = False) -> None:
        self._node = node
        self._holds_memory = holds_memory

    def available(self, *, card: Card, host: Host) -> Availability:  # noqa: ARG002 - the verb's signature
        """Whether the card's driver has MPS v3; that the daemon runs is asked when a share needs it."""
        if card.vendor != "nvidia" or not GPU_UUID.fullmatch(card.uuid):
            return _no("MPS limits whole NVIDIA cards only.")
        if _release(card.driver_version) < FIRST_DRIVER:
            return _no(
                f"MPS with a limit for each share needs NVIDIA's driver {FIRST_DRIVER} or later; this node "
                f"has {card.driver_version or 'one that does not say its version'}.",
                refusal=MpsTooOldError,
                remedy="Upgrade the node's driver, or name another method in the policy's field isolation.",
            )
        if not self._holds_memory:
            return Availability(
                memory=False,
                cores=True,
                reason="MPS limits the memory of each process, not of a share.",
                remedy="Name a method that holds memory (kernel, preload) in the policy's field isolation, "
                "or accept limits for each process with the chart's value mps.memory.",
            )
        return Availability(memory=True, cores=True)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """The share's socket, mounted where its variable leads to.

        Raises:
            MpsUnavailableError: The daemon does not say that the limits are set.
            IsolationError: The limits cannot be expressed, or the driver was replaced by an older one.
        """
        wanted = _wanted(share, context=context)
        if wanted is None:
            return ContainerEdits()
        found = self.available(card=context.card, host=host)
        if not found.cores:
            raise found.refusal(found.reason, remedy=found.remedy)
        self._node.put(wanted)
        state = self._node.state()
        why_not = state.why_not(wanted.name)
        if why_not:
            raise MpsUnavailableError(
                f"The limits of request {share.request} cannot be set by MPS. {why_not}",
                remedy="The kubelet tries again; an administrator looks at the DaemonSet of MPS.",
            )
        return ContainerEdits(
            env={"CUDA_MPS_PIPE_DIRECTORY": CONTAINER_PIPE_DIR},
            mounts=(Mount(host_path=state.folders[wanted.name], container_path=CONTAINER_PIPE_DIR),),
        )

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the process is a client of the share's namespace, the only one, and its limits are set."""
        wanted = _wanted(share, context=context)
        if wanted is None:
            return InForce(holds=True, message="The share has no limit that this method holds.")
        state = self._node.state(fresh=False)
        why_not = state.why_not(wanted.name)
        if why_not:
            return InForce(
                holds=False,
                reason=LIMITS_LOST,
                message=why_not,
                remedy="Wait for the MPS daemon, or delete the pod if it says so.",
            )
        ours = [one for one in state.clients if (one.server, one.namespace) == (wanted.server, wanted.name)]
        if not any(one.pid == pid for one in ours):
            return _not_connected(pid, host=host)
        if len(ours) > 1:
            return InForce(
                holds=False,
                reason="SeveralMpsProcesses",
                message=f"{len(ours)} processes use the share, each with all of its limits: MPS limits "
                "processes.",
                remedy="Run one process that uses the card in the container.",
            )
        return InForce(holds=True, message="The process is a client of MPS with the share's limits.")

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:  # noqa: ARG002
        """Gives the namespace back."""
        self._node.drop(share.claim_uid, namespace_name(share))

    def claims(self, *, host: Host) -> frozenset[str]:  # noqa: ARG002
        """UIDs of the claims that have namespaces."""
        return self._node.claims()

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:  # noqa: ARG002
        """Gives all namespaces of a claim back."""
        self._node.drop_claim(claim_uid)


def _no(reason: str, *, refusal: type[IsolationError] = IsolationError, remedy: str = "") -> Availability:
    return Availability(memory=False, cores=False, reason=reason, refusal=refusal, remedy=remedy)


def _wanted(share: Share, *, context: ShareContext) -> MpsShare | None:
    holds_memory = context.holds_memory and share.limits_memory
    holds_cores = context.holds_cores and share.limits_cores
    if not holds_memory and not holds_cores:
        return None
    return mps_share(share, card_uuid=context.card.uuid, holds_cores=holds_cores)


def _release(driver_version: str) -> int:
    head = driver_version.partition(".")[0]
    return int(head) if head.isascii() and head.isdigit() else 0


def _not_connected(pid: int, *, host: Host) -> InForce:
    try:
        maps = host.read_part(f"/proc/{pid}/maps", length=MAX_MAPS_BYTES)
    except PermissionError:
        return HIDDEN
    except OSError:
        return ENDED
    # Programs that only ask about cards (nvidia-smi) come without CUDA, and MPS has nothing to hold in them.
    if b"/libcuda.so" not in maps:
        return TOO_LARGE if len(maps) >= MAX_MAPS_BYTES else UNUSED
    return InForce(
        holds=False,
        reason="NoMpsClient",
        message="A process has loaded CUDA and is no client of MPS: it has the whole card.",
        remedy="Pass CUDA_MPS_PIPE_DIRECTORY on to it as it is, and start it anew if it started while the "
        "MPS daemon was away.",
    )
