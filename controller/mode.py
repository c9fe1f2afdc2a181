"""Whether shares can be allocated by kube-scheduler itself ("native") in this cluster.

Flow: `probe` looks at the server's version and sends a slice and a claim as dry runs, reading back what
the server would have stored. `ModeWatch` asks again now and then, and is told by whoever writes for real
if fields vanished there.

Limits: both answers count. The gate alone is not enough, because it can be switched on by hand in 1.34 and
1.35, whose allocators panic and miscount; the version alone is not enough, because the gate can be switched
off in 1.36. Where the question cannot be answered the verdict is `UNKNOWN`: nothing is made and nothing is
taken away. Of several API servers each is asked (`controller.servers`), and it is possible once it is with
all of them; one that gives no answer is passed over. Servers that cannot be found one by one are upgraded
one after the other: so "impossible" counts at once, and "possible" after it only once `_CONFIRMATIONS` probes
in a row have said so. A process that starts believes the first answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from controller.servers import Servers
from driver.cards import Card
from driver.errors import shown
from driver.kube.client import JSON, ApiError, ForbiddenError, KubeClient
from driver.kube.resources import RESOURCE_CLAIMS, RESOURCE_SLICES
from driver.slices import DroppedField, dropped_fields, publication_of, with_generation

FIRST_NATIVE = (1, 36)
SHARING_GATE = "DRAConsumableCapacity"

_CONFIRMATIONS = 3

_log = structlog.get_logger("mode")


class Verdict(StrEnum):
    """Whether native mode is possible."""

    POSSIBLE = "Possible"
    IMPOSSIBLE = "Impossible"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, kw_only=True)
class ModeState:
    """The answer, with words for a condition.

    Attributes:
        verdict: The answer.
        reason: CamelCase word, stable; "" where native mode is possible.
        message: A sentence.
        release: The API server's release such as `1.36`, "" where it is not known.
    """

    verdict: Verdict
    reason: str = ""
    message: str = ""
    release: str = ""

    @property
    def amounts_kept(self) -> bool | None:
        """Whether the API server keeps the amounts that claims ask for; None if that is not known."""
        return None if self.verdict is Verdict.UNKNOWN else self.verdict is Verdict.POSSIBLE


NOT_ASKED = ModeState(
    verdict=Verdict.UNKNOWN, reason="NotProbed", message="The API server was not asked yet what it can do."
)


async def probe(client: KubeClient, *, namespace: str) -> ModeState:
    """Asks the API server.

    Args:
        client: The API server.
        namespace: Where the dry run of a claim is sent; nothing is stored.
    """
    try:
        version = await client.raw_get("/version")
        found = _version(version)
        if found is None:
            return ModeState(
                verdict=Verdict.UNKNOWN,
                reason="VersionUnknown",
                message=f"The API server's version {shown(version.get('gitVersion'))} cannot be read.",
            )
        release = f"{found[0]}.{found[1]}"
        if found < FIRST_NATIVE:
            return ModeState(
                verdict=Verdict.IMPOSSIBLE,
                release=release,
                reason="KubernetesTooOld",
                message=f"Kubernetes {found[0]}.{found[1]} cannot allocate shares by itself: the feature "
                f"gate {SHARING_GATE} is off there, and switched on by hand its allocator miscounts. "
                "Native mode needs 1.36 or later.",
            )
        dropped = [*await _slice_drops(client), *await _claim_drops(client, namespace)]
    except ForbiddenError as refused:
        return ModeState(
            verdict=Verdict.UNKNOWN,
            reason="ProbeForbidden",
            message=f"The probe was refused: {refused}. The controller's role or an admission policy is in "
            "the way.",
        )
    except ApiError as failed:
        return ModeState(
            verdict=Verdict.UNKNOWN, reason="ProbeFailed", message=f"The probe failed: {failed}."
        )
    return replace(dropped_state(dropped), release=release)


async def probe_each(client: KubeClient, servers: Servers | None, *, namespace: str) -> ModeState:
    """Asks each of several API servers; the one there is, where there are not several.

    Args:
        client: Whichever answers; each request may be another one's.
        servers: All of them; None where they cannot be told apart.
        namespace: As for `probe`.

    Returns:
        The worst answer; servers that cannot be reached are passed over.
    """
    state: ModeState | None = None
    if servers is not None:
        for url in await servers.urls():
            async with servers.connect(url) as one:
                found = await probe(one, namespace=namespace)
            if found.verdict is Verdict.IMPOSSIBLE:
                return replace(found, message=f"One of several API servers, {url}: {found.message}")
            if found.verdict is Verdict.UNKNOWN:
                _log.warning("an API server cannot be asked", server=url, explanation=found.message)
            else:
                state = found
    return state or await probe(client, namespace=namespace)


def dropped_state(dropped: Sequence[DroppedField]) -> ModeState:
    """What it means for the mode that these fields were dropped."""
    sharing = [field for field in dropped if field.gate in (SHARING_GATE, "")]
    if not sharing:
        return ModeState(verdict=Verdict.POSSIBLE)
    return ModeState(
        verdict=Verdict.IMPOSSIBLE,
        reason="FieldsDropped",
        message=f"The API server dropped {_some(sharing)}. Without them a claim for a share would get a "
        f"whole card. Switch the feature gate {SHARING_GATE} on in the API server, the scheduler and the "
        "controller manager.",
    )


class ModeWatch:
    """Knows the mode and asks again.

    Attributes:
        state: What is known.
        asked: Set once the first probe is over, whatever it brought.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        interval_s: float,
        retry_s: float = 10.0,
        changed: Callable[[ModeState], None],
    ) -> None:
        """Prepares the watch; `run` starts it.

        Args:
            client: The API server.
            namespace: Where dry runs of claims are sent.
            interval_s: Seconds between two probes.
            retry_s: Seconds after a probe without an answer.
            changed: Told of each new state.
        """
        self.state = NOT_ASKED
        self.asked = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._changed = changed
        self._agreed = 0
        self._servers: Servers | None = None

    def ask_each(self, servers: Servers) -> None:
        """From now on each API server is asked."""
        self._servers = servers

    async def run(self) -> None:
        """Probes until cancelled."""
        while True:
            state = await probe_each(self._client, self._servers, namespace=self._namespace)
            # Silence is no reason to doubt what was known.
            if state.verdict is not Verdict.UNKNOWN or self.state.verdict is Verdict.UNKNOWN:
                self._answered(state)
            self.asked.set()
            await asyncio.sleep(self._retry_s if state.verdict is Verdict.UNKNOWN else self._interval_s)

    def report(self, dropped: Sequence[DroppedField]) -> None:
        """Takes note of fields that vanished from a real write."""
        state = dropped_state(dropped)
        if state.verdict is Verdict.IMPOSSIBLE:
            self._agreed = 0
            self._set(replace(state, release=self.state.release))

    def _answered(self, state: ModeState) -> None:
        better = state.verdict is Verdict.POSSIBLE and self.state.verdict is Verdict.IMPOSSIBLE
        self._agreed = self._agreed + 1 if better else 0
        if better and self._agreed < _CONFIRMATIONS:
            _log.info("native mode seems possible", asked=self._agreed, of=_CONFIRMATIONS)
        else:
            self._set(state)

    def _set(self, state: ModeState) -> None:
        if state == self.state:
            return
        self.state = state
        log = _log.info if state.verdict is Verdict.POSSIBLE else _log.error
        log("native mode", verdict=state.verdict.value, reason=state.reason, explanation=state.message)
        self._changed(state)


async def _slice_drops(client: KubeClient) -> tuple[DroppedField, ...]:
    card = Card(name="probe", vendor="probe", model="probe", memory_bytes=1 << 30)
    (item,) = publication_of([card], node="dragoman-probe").slices
    # A name that the server makes cannot collide with that of a real node's slice.
    item = with_generation({**item, "metadata": {"generateName": "dragoman.dev-probe-"}}, 1)
    return dropped_fields(item, await client.create(RESOURCE_SLICES, item, dry_run=True))


async def _claim_drops(client: KubeClient, namespace: str) -> tuple[DroppedField, ...]:
    claim: JSON = {
        "apiVersion": RESOURCE_CLAIMS.api_version,
        "kind": RESOURCE_CLAIMS.kind,
        "metadata": {"generateName": "dragoman-probe-", "namespace": namespace},
        "spec": {
            "devices": {
                "requests": [
                    {
                        "name": "share",
                        "exactly": {
                            "deviceClassName": "accelerator.dragoman.dev",
                            "capacity": {"requests": {"memory": "1Mi", "cores": "1"}},
                        },
                    }
                ]
            }
        },
    }
    answer = await client.create(RESOURCE_CLAIMS, claim, namespace=namespace, dry_run=True)
    # `generateName` and the like are the server's to change; only the spec is asked about.
    return dropped_fields({"spec": claim["spec"]}, answer)


def _version(answer: JSON) -> tuple[int, int] | None:
    major, minor = (re.match(r"\d+", str(answer.get(part) or "")) for part in ("major", "minor"))
    return None if major is None or minor is None else (int(major[0]), int(minor[0]))


def _some(dropped: Sequence[DroppedField], most: int = 3) -> str:
    shown = ", ".join(str(field) for field in dropped[:most])
    rest = len(dropped) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
