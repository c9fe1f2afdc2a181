import asyncio
from pathlib import Path
from typing import Any

import pytest

from driver.errors import ConfigError
from driver.kube.client import JSON, ApiError, UnreachableError
from kubelet_plugin import policy_source
from kubelet_plugin.policy_source import FilePolicySource, KubePolicySource
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
        await asyncio.wait_for(changed.wait(), 5)
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
        await asyncio.wait_for(changed.wait(), 5)
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
        await asyncio.wait_for(changed.wait(), 5)
    running.cancel()
