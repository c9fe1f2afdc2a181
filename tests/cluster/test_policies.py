"""AcceleratorPolicies on a running cluster: slices follow, running pods are never disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, TEMPLATES, Api, Refused
from tests.cluster.support.cards import SimulatedCard
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import ANY, pod, request, sharing, template
from tests.cluster.support.space import Space, containers_of

pytestmark = pytest.mark.cluster


class SetPolicy(Protocol):
    """Makes or changes a policy that ends with the test."""

    def __call__(self, name: str, **spec: Any) -> None: ...


@pytest.fixture
def policy(api: Api, installed: Installation) -> Iterator[SetPolicy]:
    names: set[str] = set()

    def put(name: str, **spec: Any) -> None:
        names.add(name)
        body = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }
        api.apply(body)

    yield put
    for name in names:
        api.delete(ACCELERATOR_POLICIES, name)
    installed.wait_slices(
        lambda now: _published(now) == installed.published,
        what="all is as it was before the test's policies",
    )


def _published(slices: list[JSON]) -> dict[str, JSON]:
    return {device["name"]: device for one in slices for device in one["spec"].get("devices") or []}


def _wait(installed: Installation, card: SimulatedCard, done: Any, *, what: str) -> None:
    installed.wait_slices(lambda now: done(_published(now).get(card.device)), what=f"{card.device} {what}")


def _memory(device: JSON | None) -> str:
    return "" if device is None else str(device["capacity"]["memory"]["value"])


def test_a_card_that_is_excluded_vanishes_and_the_inventory_says_why(
    policy: SetPolicy, installed: Installation, api: Api
) -> None:
    policy("test-excluded", cards=[{"uuid": cards.NVIDIA_40.uuid, "excluded": True}])

    _wait(installed, cards.NVIDIA_40, lambda device: device is None, what="is not offered")
    status = api.get(ACCELERATOR_NODES, installed.node)["status"]
    (card,) = (one for one in status["cards"] if one["uuid"] == cards.NVIDIA_40.uuid)
    assert card["unpublished"]
    setting = {"field": "excluded", "value": "true", "source": "test-excluded", "card": cards.NVIDIA_40.uuid}
    assert setting in status["policy"]


def test_reserved_memory_is_taken_off_what_is_offered(
    policy: SetPolicy, installed: Installation, space: Space
) -> None:
    policy("test-reserved", cards=[{"uuid": cards.NVIDIA_40.uuid, "reservedMemory": "8Gi"}])
    _wait(installed, cards.NVIDIA_40, lambda device: _memory(device) == "32Gi", what="has 32Gi")

    too_much, _ = sharing("a", request(memory="33Gi", cel=cards.on(cards.NVIDIA_40)))

    def refused() -> str:
        try:
            space.api.create(TEMPLATES, too_much, namespace=space.name, dry_run=True)
        except Refused as told:
            return told.message
        return ""

    # Whoever answers hears of the slices as late as we do, or later.
    assert "the card has 32Gi" in waiting.eventually(refused, what="more than that is refused")
    space.create(*sharing("b", request(memory="32Gi", cores="50", cel=cards.on(cards.NVIDIA_40))))
    space.running("b")


def test_a_card_that_is_not_shared_is_given_out_whole_only(
    policy: SetPolicy, installed: Installation, space: Space
) -> None:
    policy("test-whole", cards=[{"uuid": cards.NVIDIA_40.uuid, "sharing": False}])
    _wait(
        installed,
        cards.NVIDIA_40,
        lambda device: device is not None and not device.get("allowMultipleAllocations"),
        what="is offered whole",
    )
    space.create(template("whole", request(cel=cards.on(cards.NVIDIA_40))))
    space.create(pod("first", templates={"card": "whole"}))
    space.running("first")
    space.create(pod("second", templates={"card": "whole"}))
    space.event("second", reason="FailedScheduling")
    space.delete("first")
    space.running("second")


def test_the_policy_of_the_highest_priority_wins_field_by_field(
    policy: SetPolicy, installed: Installation, api: Api
) -> None:
    policy("test-low", priority=1, reservedMemory="1Gi", allowUncapped=False)
    policy("test-high", priority=9, reservedMemory="2Gi")
    _wait(installed, cards.NVIDIA_40, lambda device: _memory(device) == "38Gi", what="has 38Gi")

    def settled(one: JSON) -> bool:
        found = {
            entry["field"]: entry["source"] for entry in one["status"]["policy"] if not entry.get("card")
        }
        return (found["reservedMemory"], found["allowUncapped"]) == ("test-high", "test-low")

    waiting.wait_for(api, ACCELERATOR_NODES, installed.node, settled, what="tells both sources")


def test_a_share_that_nothing_holds_runs_only_where_a_policy_names_that_method_and_is_told_as_such(
    policy: SetPolicy, installed: Installation, api: Api, space: Space
) -> None:
    policy("test-none", isolation=["preload", "none"])

    def settled(one: JSON) -> bool:
        return {"field": "isolation", "value": "preload, none", "source": "test-none", "card": ""} in one[
            "status"
        ]["policy"]

    waiting.wait_for(api, ACCELERATOR_NODES, installed.node, settled, what="tells the methods")
    space.create(*sharing("held", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40))))
    space.create(*sharing("free", request(of=ANY, memory="1Gi", cel=cards.on(cards.AMD))))
    space.running("held", "free")
    assert (space.seen("held").library, space.seen("held").memory_mib(0)) == (True, 1024)
    assert (space.seen("free").library, space.seen("free").memory_mib(0)) == (False, None)
    told = {name: _limited(space, name) for name in ("held", "free")}
    assert told["held"]["status"] == "True"
    assert told["free"]["status"] == "False"
    assert "held by nothing" in told["free"]["message"]


def _limited(space: Space, pod: str) -> JSON:
    name = space.claim_of(pod)["metadata"]["name"]

    def limited(claim: JSON) -> JSON:
        for entry in claim["status"].get("devices") or []:
            for condition in entry.get("conditions") or []:
                if condition["type"] == "Limited":
                    return dict(condition)
        return {}

    return space.wait_claim(name, limited, what="tells its limits")


def test_a_policy_for_other_nodes_changes_nothing(
    policy: SetPolicy, installed: Installation, api: Api
) -> None:
    elsewhere = {"matchLabels": {"kubernetes.io/hostname": "elsewhere"}}
    policy("test-elsewhere", nodeSelector=elsewhere, excluded=True)
    here = {"matchLabels": {"kubernetes.io/hostname": installed.node}}
    # The second policy is seen after the first: once it shows, the first has been looked at as well.
    policy("test-here", nodeSelector=here, cards=[{"uuid": cards.NVIDIA_40.uuid, "reservedMemory": "1Gi"}])

    _wait(installed, cards.NVIDIA_40, lambda device: _memory(device) == "39Gi", what="has 39Gi")
    assert sorted(_published(installed.slices())) == installed.devices


def test_a_policy_made_stricter_leaves_running_pods_alone(
    policy: SetPolicy, installed: Installation, space: Space
) -> None:
    ask = request(memory="4Gi", cores="30", cel=cards.on(cards.NVIDIA_40))
    space.create(*sharing("holder", ask))
    (before,) = space.running("holder")
    policy("test-strict", cards=[{"uuid": cards.NVIDIA_40.uuid, "excluded": True}])
    _wait(installed, cards.NVIDIA_40, lambda device: device is None, what="is not offered")

    space.create(*sharing("late", ask))
    space.event("late", reason="FailedScheduling")
    after = space.pod("holder")
    assert waiting.running(after)
    assert containers_of(after) == containers_of(before)
    if installed.target.has_node:
        assert [name for name in installed.cdi_files() if space.claim_of("holder")["metadata"]["uid"] in name]


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        pytest.param({"sharing": "no"}, "sharing", id="a text for a boolean"),
        pytest.param({"shairing": False}, "shairing", id="a misspelt field"),
        pytest.param({"isolation": ["strong"]}, "isolation", id="an unknown method"),
        pytest.param({"cards": [{"excluded": True}]}, "uuid", id="an override without a card"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_when_it_is_written(
    api: Api, installed: Installation, spec: JSON, named: str
) -> None:
    path = ACCELERATOR_POLICIES.path()
    body = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": "test-wrong"},
        "spec": spec,
    }
    with pytest.raises(Refused) as refused:
        # As kubectl does: unknown fields are an error, not dropped.
        api.request("POST", path, query={"fieldValidation": "Strict", "dryRun": "All"}, body=body)
    assert named in refused.value.message


def test_a_field_that_the_definition_does_not_have_is_dropped_before_anybody_reads_it(
    policy: SetPolicy, api: Api
) -> None:
    # What `docs/upgrading.md` says of fields that are set before the chart was updated.
    policy("test-later", excluded=False)
    stored = api.get(ACCELERATOR_POLICIES, "test-later")
    spec = {**stored["spec"], "ofALaterVersion": 80, "cards": [{"uuid": "GPU-nobody", "ofALaterVersion": 80}]}
    api.replace(ACCELERATOR_POLICIES, {**stored, "spec": spec})
    after = api.get(ACCELERATOR_POLICIES, "test-later")["spec"]
    assert (after["excluded"], after["cards"]) == (False, [{"uuid": "GPU-nobody"}])
    assert "ofALaterVersion" not in after
