"""Whenever the rules accept, every container sees the right limit on the right card, however CDI merges."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import event, given, settings
from hypothesis import strategies as st

from driver.cards import Card
from driver.errors import IsolationError
from driver.isolation.base import ShareContext
from driver.isolation.preload import CONTAINER_REGION_DIR, Preload, PreloadSettings
from driver.isolation.rules import ContainerUse, ShareFacts, ShareKey, card_sort_key, check_preload_rules
from driver.shares import Share
from tests.support.memory_host import MemoryHost

CARDS = [
    Card(
        name=f"nvidia-{n}",
        vendor="nvidia",
        model="m",
        memory_bytes=64 << 20,
        pci_bus_id=f"0000:{9 - n:02x}:00.0",
    )
    for n in range(3)
]
LIBRARY = "/lib/libvgpu-1.so"
SETTINGS = PreloadSettings(library=LIBRARY, files_dir="/files", region_dir="/run/regions")


@dataclass(frozen=True)
class Held:
    """A share, its card, and the core policy of its config."""

    share: Share
    card: Card
    policy: str

    @property
    def key(self) -> ShareKey:
        share = self.share
        return ShareKey(
            claim_uid=share.claim_uid, request=share.request, device=share.device, share_id=share.share_id
        )

    @property
    def limited(self) -> bool:
        return self.share.limits_memory or self.capped

    @property
    def capped(self) -> bool:
        return self.share.limits_cores and self.policy == "force"

    @property
    def facts(self) -> ShareFacts:
        return ShareFacts(
            card_sort_key=card_sort_key(self.card),
            limited=self.limited,
            core_policy=self.policy if self.share.limits_cores else "",
            vendor=self.card.vendor,
        )


@dataclass(frozen=True)
class World:
    """The claims of a pod, and its containers."""

    shares: tuple[Held, ...]
    containers: tuple[ContainerUse, ...]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    shares = []
    several = draw(st.booleans())
    cards = draw(st.permutations(CARDS))
    for number in range(draw(st.integers(1, 3))):
        card = draw(st.sampled_from(CARDS)) if several else cards[number]
        whole = draw(st.booleans())
        shares.append(
            Held(
                share=Share(
                    claim_uid=draw(st.sampled_from(["claim-a", "claim-b", "claim-c"])),
                    request=f"r{number}",
                    device=card.name,
                    share_id=f"s{number}",
                    memory_mib=64 if whole else draw(st.integers(1, 63)),
                    cores_percent=draw(st.sampled_from([0, 10, 50, 100])),
                    whole=whole,
                ),
                card=card,
                policy=draw(st.sampled_from(["force", "force", "disable"])),
            )
        )
    kinds: list[Literal["init", "sidecar", "app"]] = ["init", "init", "app", "sidecar"]
    containers = tuple(
        ContainerUse(
            pod_uid="pod",
            pod_name="pod",
            container=f"c{number}",
            kind="app" if number == 0 else draw(st.sampled_from(kinds)),
            order=number,
            uses=frozenset(draw(st.sets(st.sampled_from([one.key for one in shares]), min_size=1))),
        )
        for number in range(draw(st.integers(1, 3)))
    )
    return World(tuple(shares), containers)


def running_together(containers: Sequence[ContainerUse]) -> Iterator[list[ContainerUse]]:
    """The sets of containers that run at the same time, as a kubelet starts a pod."""
    running: list[ContainerUse] = []
    for use in sorted((use for use in containers if use.kind != "app"), key=lambda use: use.order):
        yield [*running, use]
        if use.kind == "sidecar":
            running.append(use)
    yield [*running, *(use for use in containers if use.kind == "app")]


def edits_of(world: World) -> Mapping[ShareKey, tuple[Mapping[str, str], Mapping[str, str]]]:
    """Environment and mounts of each share, by the real rules and the real method."""
    host = MemoryHost({LIBRARY: "", "/proc/sys/kernel/random/boot_id": "boot-1\n"})
    facts = {one.key: one.facts for one in world.shares}
    found = {}
    for claim in sorted({one.share.claim_uid for one in world.shares}):
        ours = [one for one in world.shares if one.share.claim_uid == claim]
        indices = check_preload_rules(
            claim_shares=[one.key for one in ours],
            all_shares=facts,
            containers=world.containers,
            pod_owned=True,
        )
        for one in ours:
            context = ShareContext(
                card=one.card,
                index=indices[one.key],
                core_policy=one.policy,
                claim_uid=claim,
                holds_memory=one.share.limits_memory,
                holds_cores=one.capped,
            )
            edits = Preload(SETTINGS).edits(one.share, context=context, host=host)
            mounts = {mount.container_path: mount.host_path for mount in edits.mounts}
            found[one.key] = (edits.env, mounts)
    return found


def limits_in(env: Mapping[str, str], index: int) -> tuple[str, str]:
    """What the library reads for the card at `index`."""
    capped = env.get("GPU_CORE_UTILIZATION_POLICY") != "disable"
    cores = env.get(f"CUDA_DEVICE_SM_LIMIT_{index}", "") if capped else ""
    return env.get(f"CUDA_DEVICE_MEMORY_LIMIT_{index}", ""), cores


def expected(world: World, use: ContainerUse) -> list[tuple[str, str]]:
    """What each card that the container sees should be limited to, in the order of its own view."""
    view = sorted({g.card.pci_bus_id for g in world.shares if g.key in use.uses})
    rows = []
    for address in view:
        here = [g for g in world.shares if g.key in use.uses and g.card.pci_bus_id == address]
        memory = {f"{g.share.memory_mib}m" for g in here if g.share.limits_memory}
        cores = {str(g.share.cores_percent) for g in here if g.capped}
        assert len(memory) <= 1, "two memory limits on one card were accepted"
        assert len(cores) <= 1, "two caps on one card were accepted"
        rows.append((next(iter(memory), ""), next(iter(cores), "")))
    return rows


def merged(
    parts: Iterable[tuple[Mapping[str, str], Mapping[str, str]]],
) -> tuple[dict[str, str], dict[str, str]]:
    """What a runtime makes of several devices' edits: later ones win, by variable and by mount point."""
    env: dict[str, str] = {}
    mounts: dict[str, str] = {}
    for more_env, more_mounts in parts:
        env.update(more_env)
        mounts.update(more_mounts)
    return env, mounts


@settings(max_examples=500, deadline=None)
@given(worlds())
def test_in_every_order_of_merging_each_container_sees_its_limits(world: World) -> None:
    try:
        edits = edits_of(world)
    except IsolationError as refused:
        event(refused.reason)
        return
    event("accepted")
    regions: dict[str, set[str]] = {}
    first_in: dict[str, Mapping[str, str]] = {}
    for use in world.containers:
        for order in itertools.permutations(sorted(use.uses)):
            env, mounts = merged(edits[key] for key in order)
            rows = expected(world, use)
            assert [limits_in(env, index) for index in range(len(rows))] == rows
            assert not any(limits_in(env, index) != ("", "") for index in range(len(rows), 16))
            region = mounts.get(CONTAINER_REGION_DIR)
            assert (region is not None) == any(row != ("", "") for row in rows)
            if region is not None:
                regions.setdefault(use.container, set()).add(region)
                # The limits of a region are those of the first process that opens it.
                assert first_in.setdefault(region, env) == env
    for together in running_together(world.containers):
        used = [region for use in together for region in regions.get(use.container, ())]
        assert len(used) == len(set(used)), "two containers count in one region at the same time"
