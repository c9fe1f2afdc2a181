"""However the steps of agents and controllers fall together, no more nodes change than may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.api.rollout import shape
from tests.controller.rollouts.model import Cluster, Controller

NAMES = ("n1", "n2", "n3", "n4")
LIMITS: dict[str, int] = {"a": 1, "b": 2}
STEPS = {
    "control": 30,
    "watch": 30,
    "report": 14,
    "sync": 8,
    "publish": 3,
    "write": 1,
    "restart": 0.5,
    "leave": 0.2,
    "join": 0.3,
}
"""What can happen, and how often: where changes follow each other too quickly, no node ever changes."""
Step = tuple[str, int, int]


def steps_of(seed: int, *, count: int) -> list[Step]:
    """Steps in an order that nobody would think of."""
    source = random.Random(seed)
    chosen = source.choices(list(STEPS), weights=list(STEPS.values()), k=count)
    return [(one, source.randrange(4), source.randrange(4)) for one in chosen]


def spec(policy: str, kind: int) -> dict[str, Any]:
    """What an administrator may write; both policies say something of one field, `b` the last word."""
    says: tuple[dict[str, Any], ...] = (
        {},
        {"sharing": False},
        {"reservedMemory": "1Gi"},
        {"sharing": False, "allowUncapped": False},
    )
    return {**says[kind], "maxUnavailable": LIMITS[policy], "priority": int(policy == "b")}


def check(cluster: Cluster) -> None:
    for policy, limit in LIMITS.items():
        away = [name for name, policies in cluster.away.items() if policy in policies]
        assert len(away) <= limit, f"{policy}: {away}"


async def run(steps: Sequence[Step]) -> Cluster:
    cluster = Cluster()
    for policy in LIMITS:
        cluster.put(policy, **spec(policy, 0))
    for name in NAMES:
        cluster.join(name)
        cluster.publish(name)
    controllers = [Controller(cluster), Controller(cluster)]
    for one in controllers:
        one.sync()
    for what, which, kind in steps:
        await step(cluster, controllers, what, which, kind)
        check(cluster)
    await settle(cluster, controllers)
    return cluster


async def step(cluster: Cluster, controllers: list[Controller], what: str, which: int, kind: int) -> None:
    name, policy = NAMES[which], "ab"[which % 2]
    agent = cluster.agents.get(name)
    controller = controllers[kind % 2]
    if what == "watch" and agent is not None:
        agent.watch()
    elif what == "report" and agent is not None:
        agent.report()
    elif what == "publish":
        cluster.publish(name)
    elif what == "sync":
        controller.sync()
    elif what == "control":
        await controller.step(policy)
    elif what == "write":
        cluster.put(policy, **spec(policy, kind))
    elif what == "restart":
        cluster.restart(name)
    elif what == "leave":
        cluster.leave(name)
    elif what == "join":
        cluster.join(name)


async def settle(cluster: Cluster, controllers: list[Controller]) -> None:
    """Everybody does what is to be done, until nothing changes any more."""
    before = -1
    for _ in range(100):
        if before == cluster.version:
            return
        before = cluster.version
        for agent in cluster.agents.values():
            while agent.seen < len(cluster.history) - 1:
                agent.watch()
                check(cluster)
            agent.report()
        for name in cluster.agents:
            cluster.publish(name)
        for one in controllers:
            for policy in LIMITS:
                await one.end()
                one.sync()
                await one.step(policy)
                await one.end()
                check(cluster)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_at_no_instant_more_nodes_change_than_may_and_in_the_end_all_have_changed(seed: int) -> None:
    cluster = asyncio.run(run(steps_of(seed, count=400)))
    assert not cluster.away
    for agent in cluster.agents.values():
        assert agent.policy is not None
        assert agent.change is None or agent.change.state == "Done"
    shapes = {
        str(sorted(shape(one.policy, cards=()).items())) for one in cluster.agents.values() if one.policy
    }
    assert len(shapes) <= 1
    for policy in cluster.policies.values():
        assert not policy["status"]["turns"]
        assert [one["reason"] for one in policy["status"]["conditions"]] == ["Done"]


@pytest.mark.parametrize("policy", LIMITS)
def test_a_change_goes_through_all_nodes(policy: str) -> None:
    cluster = asyncio.run(run([("write", "ab".index(policy), 1)]))
    assert all(one.change is not None for one in cluster.agents.values())
