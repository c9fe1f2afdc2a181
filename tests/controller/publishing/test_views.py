"""What is kept of the API's objects."""

from typing import Any

import pytest

from controller.publishing.views import Groups, agent_view, inventory_view, slice_view


def pod(*, ready: str = "True", node: str = "n1", deleting: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "agent"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}, {"type": "Initialized", "status": "True"}]
        },
    }


@pytest.mark.parametrize(
    ("document", "ready"),
    [(pod(), True), (pod(ready="False"), False), (pod(ready="Unknown"), False), (pod(deleting=True), False)],
)
def test_an_agent_counts_as_ready_only_if_it_says_so_and_stays(document: Any, ready: bool) -> None:
    view = agent_view(document)
    assert view is not None
    assert (view.node, view.ready) == ("n1", ready)


def test_an_agent_that_is_not_on_a_node_is_not_kept() -> None:
    assert agent_view(pod(node="")) is None


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, "broken", {"conditions": "broken"}])
def test_an_inventory_without_a_status_is_empty_whatever_form_that_has(status: Any) -> None:
    view = inventory_view({"metadata": {"name": "n1"}, "status": status})
    assert (view.status, view.published) == (b"", None)


def test_conditions_are_not_part_of_the_inventory() -> None:
    condition = {
        "type": "Published",
        "status": "True",
        "reason": "R",
        "message": "M",
        "lastTransitionTime": "T",
    }
    view = inventory_view({"metadata": {}, "status": {"cards": [], "conditions": [condition]}})
    assert view.status == b'{"cards":[]}'
    assert view.published is not None
    assert (view.published.status, view.published.since) == ("True", "T")


def test_slices_of_other_drivers_are_not_kept() -> None:
    assert slice_view({"metadata": {"name": "s"}, "spec": {"driver": "gpu.nvidia.com"}}) is None


def test_a_key_is_in_one_group_at_a_time() -> None:
    groups = Groups()
    groups.put("a", "n1")
    groups.put("b", "n1")
    groups.put("a", "n2")
    assert (groups.members("n1"), groups.members("n2")) == (["b"], ["a"])
    groups.put("b", None)
    assert groups.groups() == ["n2"]
