import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.errors import ConfigError
from driver.kube.client import JSON, ApiError, UnreachableError, error_for
from kubelet_plugin import policy_source
from kubelet_plugin.policy_source import FilePolicySource, KubePolicySource, PolicyView
from tests.support.scripted_api import Request, scripted_client

MANIFEST = """
apiVersion: dragoman.dev/v1alpha1
kind: AcceleratorPolicy
metadata: {name: whole-cards}
spec: {sharing: false}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
"""


def policy(name: str, **spec: Any) -> JSON:
    return {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": name, "resourceVersion": "5", "uid": name},
        "spec": spec,
    }


def test_without_a_file_the_defaults_hold() -> None:
    view = FilePolicySource("", node_name="n").view()
    assert view.complete
    assert view.policy.settings["sharing"].source == "default"


def test_policies_are_read_from_a_file_among_other_documents(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(MANIFEST)
    for path in (tmp_path / "p.yaml", tmp_path):
        setting = FilePolicySource(str(path), node_name="n").view().policy.settings["sharing"]
        assert (setting.value, setting.source) == (False, "whole-cards")


def test_a_file_that_changed_counts_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(MANIFEST)
    source = FilePolicySource(str(path), node_name="n")
    source.view()
    path.write_text(MANIFEST.replace("false", "true"))
    assert source.view().policy.settings["sharing"].value is True


def test_a_file_that_is_not_yaml_is_refused_by_flag(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="--policies-from"):
        FilePolicySource(str(tmp_path / "p.yaml"), node_name="n").view()


def test_a_field_that_is_not_known_is_left_out_and_named_and_the_others_hold(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(MANIFEST.replace("sharing: false", "shraing: false, excluded: true"))
    view = FilePolicySource(str(tmp_path / "p.yaml"), node_name="n").view()
    assert view.policy.settings["sharing"].source == "default"
    assert (view.policy.settings["excluded"].value, view.policy.settings["excluded"].source) == (
        True,
        "whole-cards",
    )
    assert view.problems == (
        (
            "AcceleratorPolicy whole-cards holds but for a field: spec.shraing: This field is not known. "
            "Did you mean 'sharing'?"
        ),
    )


def test_a_policy_whose_nodes_cannot_be_read_is_passed_over_and_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(MANIFEST.replace("sharing: false", "sharing: false, nodeSelector: all"))
    view = FilePolicySource(str(tmp_path / "p.yaml"), node_name="n").view()
    assert view.policy.settings["sharing"].source == "default"
    (problem,) = view.problems
    assert problem.startswith("AcceleratorPolicy whole-cards is passed over: spec.nodeSelector: ")


@pytest.mark.asyncio
async def test_policies_of_the_api_server_hold_where_their_selector_picks_the_node() -> None:
    def answer(request: Request) -> JSON | ApiError:
        if request.path == "/api/v1/nodes/worker":
            return {"metadata": {"name": "worker", "labels": {"pool": "a"}}}
        here = policy("here", sharing=False, nodeSelector={"matchLabels": {"pool": "a"}})
        there = policy("there", excluded=True, nodeSelector={"matchLabels": {"pool": "b"}})
        return {"metadata": {"resourceVersion": "5"}, "items": [here, there]}

    client, _ = scripted_client(answer)
    source = KubePolicySource(client, node_name="worker")
    assert not source.view().complete
    changed = asyncio.Event()
    running = asyncio.create_task(source.run(changed.set))
    while not source.view().complete:
        changed.clear()
        await asyncio.wait_for(changed.wait(), 60)
    running.cancel()
    settings = source.view().policy.settings
    assert (settings["sharing"].value, settings["excluded"].value) == (False, False)


@pytest.mark.asyncio
async def test_defaults_stand_in_but_are_not_complete_while_the_api_server_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy_source, "_RETRY_S", 0.01)
    away = True

    def answer(request: Request) -> JSON | ApiError:
        if away:
            return UnreachableError("away", status=0)
        if request.path == "/api/v1/nodes/worker":
            return {"metadata": {"name": "worker"}}
        return {"metadata": {"resourceVersion": "5"}, "items": []}

    client, transport = scripted_client(answer)
    source = KubePolicySource(client, node_name="worker")
    changed = asyncio.Event()
    running = asyncio.create_task(source.run(changed.set))
    while len(transport.requests) < 4:  # noqa: ASYNC110 - requests are a list, no event
        await asyncio.sleep(0.001)
    assert not source.view().complete
    away = False
    while not source.view().complete:
        changed.clear()
        await asyncio.wait_for(changed.wait(), 60)
    running.cancel()


@pytest.mark.asyncio
async def test_a_policy_that_changes_is_heard_of() -> None:
    def answer(request: Request) -> JSON | ApiError:
        if request.path == "/api/v1/nodes/worker":
            return {"metadata": {"name": "worker"}}
        return {"metadata": {"resourceVersion": "5"}, "items": []}

    added = policy("new", sharing=False)
    added["metadata"]["resourceVersion"] = "6"
    client, _ = scripted_client(answer, watches=[[{"type": "ADDED", "object": added}, 1e9]])
    source = KubePolicySource(client, node_name="worker")
    changed = asyncio.Event()
    running = asyncio.create_task(source.run(changed.set))
    while source.view().policy.settings["sharing"].value:
        changed.clear()
        await asyncio.wait_for(changed.wait(), 60)
    running.cancel()


INVENTORY = "/apis/dragoman.dev/v1alpha1/acceleratornodes/worker"
SHARED: JSON = {
    "cards": [{"name": "c", "uuid": "GPU-1"}],
    "policy": [{"field": "sharing", "value": "true", "source": "p"}],
    "policyChange": {"number": 4_000_000_000, "state": "Waiting", "policies": ["p"], "fields": ["sharing"]},
}


def turn_for(node: str, *, number: int, version: str, **spec: Any) -> JSON:
    found = policy("p", **spec)
    found["metadata"]["resourceVersion"] = version
    found["status"] = {"turns": [{"node": "another", "number": 1}, {"node": node, "number": number}]}
    return {"type": "MODIFIED", "object": found}


class Worker:
    """A node that has been there before, and a policy that waits for its turn."""

    def __init__(self, *watched: JSON, inventory: JSON | None = SHARED) -> None:
        self.looks = 0
        self.changed = asyncio.Event()
        self._inventory = inventory
        client, self.transport = scripted_client(self._answer, watches=[[*watched, 1e9]])
        self.source = KubePolicySource(client, node_name="worker")

    def _answer(self, request: Request) -> JSON | ApiError:
        if request.path == "/api/v1/nodes/worker":
            return {"metadata": {"name": "worker"}}
        if request.path == INVENTORY:
            if self._inventory is None:
                return error_for(404, message="none")
            return {"metadata": {"name": "worker"}, "status": self._inventory}
        items = [policy("p", sharing=False, maxUnavailable=1)]
        return {"metadata": {"resourceVersion": "5"}, "items": items}

    def look(self) -> None:
        self.looks += 1
        self.changed.set()

    async def until(self, done: Callable[[PolicyView], bool]) -> PolicyView:
        running = asyncio.create_task(self.source.run(self.look))
        try:
            while not done(view := self.source.view(cards={"GPU-1"})):
                self.changed.clear()
                await asyncio.wait_for(self.changed.wait(), 60)
            return view
        finally:
            running.cancel()


@pytest.mark.asyncio
async def test_a_policy_that_goes_from_node_to_node_waits_for_the_turn_in_its_status() -> None:
    worker = Worker()
    view = await worker.until(lambda one: one.complete)
    assert view.policy.settings["sharing"].value is True
    assert view.change is not None
    assert (view.change.state, view.change.number) == ("Waiting", 4_000_000_001)


@pytest.mark.asyncio
async def test_with_the_turn_in_the_policys_status_it_holds() -> None:
    turn = turn_for("worker", number=4_000_000_001, version="6", sharing=False, maxUnavailable=1)
    view = await Worker(turn).until(lambda one: one.change is not None and one.change.state == "Done")
    assert view.policy.settings["sharing"].value is False


@pytest.mark.asyncio
async def test_turns_of_others_cause_no_look() -> None:
    spec = {"sharing": False, "maxUnavailable": 1}
    others = [turn_for("other", number=number, version=str(number), **spec) for number in range(6, 60)]
    worker = Worker(*others)
    await worker.until(lambda one: one.complete)
    before = worker.looks
    running = asyncio.create_task(worker.source.run(worker.look))
    await asyncio.sleep(0.05)
    running.cancel()
    # The first list, the labels and the inventory; but not each of 54 turns.
    assert worker.looks - before < 6


@pytest.mark.asyncio
async def test_a_node_that_was_never_there_has_its_policies_at_once() -> None:
    view = await Worker(inventory=None).until(lambda one: one.complete)
    assert (view.policy.settings["sharing"].value, view.change) == (False, None)
