"""Says on pods and claims why they wait.

Flow: a waiting pod with claims of our classes, or with extended resources that stand for them, is looked at
after a short while, and again every half minute as long as it waits, because what is free changes. The answer
is told when it is news, and repeated rarely.

Limits: the work is paced: the allocator is asked in a thread, by one pod at a time, and rests four times
as long as it worked, so that ten thousand waiting pods cost a fifth of a core and no more than 20 Events
a second. Pods that ask the same of the same state share one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from controller.announcing import Announcer, Words
from controller.events import Events, Subject, cut
from controller.explaining.answers import NO_CARDS, Answer, Configs, answer
from controller.explaining.classes import is_standard_name
from controller.explaining.extended import special_claim
from controller.explaining.views import MAX_DOCUMENT, ClaimView, ClassView, PodView, decoded
from controller.mode import ModeState, Verdict
from driver.allocation import Snapshot
from driver.kube.client import JSON
from driver.kube.resources import PODS, RESOURCE_CLAIMS
from driver.kube.store import Objects
from driver.slices import canonical

LOOK_AGAIN_S = 30.0
_REST = 4.0
_MIN_SNAPSHOT_AGE_S = 5.0
_BUILD_SHARE = 10.0


_TOO_LONG = Answer(
    reason="ClaimTooLong",
    note=f"A claim of this pod has more than {MAX_DOCUMENT} bytes of requests, which is too long to be "
    "explained. See the scheduler's events.",
)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the explainer looks.

    Attributes:
        pods: Pods that wait for a node.
        claims: All claims.
        classes: All DeviceClasses.
        slices: Gives name and spec (JSON text) of each slice of our driver.
        nodes: Gives the names of the nodes that have slices.
        mode: Gives what is known about native mode.
        changes: A number that grows when slices, claims or classes change.
    """

    pods: Objects[PodView]
    claims: Objects[ClaimView]
    classes: Objects[ClassView]
    slices: Callable[[], list[tuple[str, bytes]]]
    nodes: Callable[[], list[str]]
    mode: Callable[[], ModeState]
    changes: Callable[[], int]


class Explainer:
    """Explains pods."""

    def __init__(self, sources: Sources, events: Events, *, again_s: float, after_s: float) -> None:
        """Prepares an explainer; it does nothing by itself.

        Args:
            sources: Where to look.
            events: Writes Events.
            again_s: Seconds before an unchanged answer is repeated.
            after_s: Seconds that a pod waits before it is looked at.
        """
        self.after_s = after_s
        self._sources = sources
        self._announcer = Announcer(events, again_s=again_s)
        self._doubted: dict[str, str] = {}
        self._snapshot: Snapshot | None = None
        self._nodes: list[str] = []
        self._seen = -1
        self._fresh_until = float("-inf")
        self._class_configs: dict[str, Sequence[JSON]] = {}
        self._answers: dict[tuple[tuple[bytes, bytes], ...], Answer] = {}
        self._owed_s = 0.0

    def begin(self) -> list[str]:
        """Forgets what another leader may have told; the keys of all pods that wait."""
        self._announcer.keep(())
        self._doubted.clear()
        return self._sources.pods.keys()

    async def explain(self, key: str) -> float | None:
        """Looks at one pod (`namespace/name`).

        Returns:
            Seconds after which to look again; None if the pod does not wait (for us).
        """
        pod = self._sources.pods.get(key)
        if pod is None:
            self._forget(key)
            return None
        if pod.gated:
            return LOOK_AGAIN_S
        namespace, _, name = key.partition("/")
        claims = self._waiting_claims(namespace, pod)
        asked = [(view.document, view.config) for _, view in claims]
        if special := special_claim(pod.extended, classes=self._classes(), ours=self._ours):
            asked.append((special, b""))
        if not asked:
            self._forget(key)
            return None
        found = await self._answer(asked)
        before = self._doubted.pop(key, "")
        if found.fits or found.reason == NO_CARDS:
            # The scheduler may just not have come to it; slices may be away while a kubelet restarts.
            self._doubted[key] = found.reason
            if before != found.reason:
                return LOOK_AGAIN_S
        subjects = [Subject(resource=PODS, name=name, namespace=namespace, uid=pod.uid)]
        subjects += [
            Subject(resource=RESOURCE_CLAIMS, name=claim, namespace=namespace, uid=view.uid)
            for claim, view in claims
        ]
        words = Words(found.reason, found.note)
        # What was not heard is said again at the next look, as if for the first time.
        if not self._announcer.left_s(key, pod.uid, words):
            await self._announcer.say(key, pod.uid, words, subjects, warning=not found.fits)
        return LOOK_AGAIN_S

    def _forget(self, key: str) -> None:
        self._announcer.forget(key)
        self._doubted.pop(key, None)

    async def rest(self) -> None:
        """To be awaited between two pods: what keeps the work to its share of a core and of Events."""
        owed, self._owed_s = self._owed_s, 0.0
        await asyncio.sleep(max(owed, self._announcer.room_s()))

    def _waiting_claims(self, namespace: str, pod: PodView) -> list[tuple[str, ClaimView]]:
        found = []
        for name in pod.claims:
            view = self._sources.claims.get(f"{namespace}/{name}")
            if view is not None and not view.allocated and any(map(self._ours, view.classes)):
                found.append((name, view))
        return found

    def _classes(self) -> Iterator[tuple[str, ClassView]]:
        names = self._sources.classes.keys()
        for name in names:
            view = self._sources.classes.get(name)
            if view is not None:
                yield name, view

    def _ours(self, name: str) -> bool:
        view = self._sources.classes.get(name)
        return is_standard_name(name) if view is None else view.ours

    async def _answer(self, claims: Sequence[tuple[bytes, bytes]]) -> Answer:
        state = self._sources.mode()
        if state.verdict is Verdict.IMPOSSIBLE:
            return Answer(reason=state.reason, note=cut(state.message))
        if not all(document for document, _ in claims):
            return _TOO_LONG
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._refresh()
        question = tuple((_spec(document), config) for document, config in claims)
        found = self._answers.get(question)
        if found is None and self._snapshot is not None:
            found = await asyncio.to_thread(
                answer,
                self._snapshot,
                nodes=self._nodes,
                claims=[_anonymous(spec, number) for number, (spec, _) in enumerate(question, start=1)],
                configs=Configs(
                    claims=[_entries(config) for _, config in question], classes=self._class_configs
                ),
            )
            self._answers[question] = found
        self._owed_s += _REST * (clock() - began)
        return found or Answer(reason="NotReady", note="Nothing is known of the cluster yet.")

    async def _refresh(self) -> None:
        clock = asyncio.get_running_loop().time
        now = clock()
        if self._sources.changes() == self._seen or now < self._fresh_until:
            return
        seen = self._sources.changes()
        # The old one goes before the new one is made: with 8,000 cards each takes 75 MiB.
        self._answers.clear()
        self._snapshot = None
        self._nodes = self._sources.nodes()
        slices = self._sources.slices()
        classes = [decoded(view.document) for view in self._sources.classes.values()]
        self._class_configs = {name: _entries(view.config) for name, view in self._classes() if view.config}
        held = [view.document for view in self._sources.claims.values() if view.allocated and view.document]
        self._snapshot = await asyncio.to_thread(_build, slices, classes, held)
        self._seen = seen
        self._fresh_until = clock() + max(_MIN_SNAPSHOT_AGE_S, _BUILD_SHARE * (clock() - now))


def _build(slices: Sequence[tuple[str, bytes]], classes: Sequence[JSON], held: Sequence[bytes]) -> Snapshot:
    return Snapshot.build(
        slices=({"metadata": {"name": name}, "spec": decoded(spec)} for name, spec in slices),
        classes=classes,
        claims=(decoded(text) for text in held),
    )


def _entries(config: bytes) -> Sequence[JSON]:
    """The list of configuration again."""
    found: Sequence[JSON] = decoded(config)["config"] if config else ()
    return found


def _spec(document: bytes) -> bytes:
    """What a claim asks for, without who asks."""
    return canonical(decoded(document)["spec"])


def _anonymous(spec: bytes, number: int) -> JSON:
    """A claim that asks for the same, named by its place in the pod."""
    return {"metadata": {"namespace": "pod", "name": f"claim-{number}"}, "spec": decoded(spec)}
