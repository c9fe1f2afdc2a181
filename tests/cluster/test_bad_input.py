"""What somebody wrote wrongly gets a clear answer from the real API server, scheduler and kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from driver.kube.resources import RESOURCE_CLAIMS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import TEMPLATES, Api, Refused
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import ANY, NVIDIA, claim, pod, request, share_config, sharing, template
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.unchecked import unchecked

pytestmark = pytest.mark.cluster

CONFIGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "misspelt": (
        {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "corePolicyy": "force"},
        ("corePolicyy", "Did you mean 'corePolicy'?"),
    ),
    "unknown": (
        {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "weight": 1},
        ("weight", "not known"),
    ),
    "value": (
        {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", "corePolicy": "sometimes"},
        ("corePolicy", "force"),
    ),
    "kind": (
        {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfiguration"},
        ("kind", "Write ShareConfig"),
    ),
    "version": (
        {"apiVersion": "dragoman.dev/v9", "kind": "ShareConfig"},
        ("apiVersion", "Write dragoman.dev/v1alpha1"),
    ),
    "nested": (
        {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "ShareConfig",
            "minimumIsolation": {"memory": "strong"},
        },
        ("minimumIsolation.memory",),
    ),
}


@pytest.fixture(scope="module")
def unseen(installed: Installation, api: Api) -> Iterator[Space]:
    """A namespace whose objects are stored without being checked."""
    with unchecked(open_space(api, "unchecked")) as space:
        yield space
        left = space.close()
    installed.expect_nothing_left(left)


@pytest.fixture(scope="module")
def misconfigured(unseen: Space) -> Space:
    """A pod for each bad config, so that the kubelet works on all of them at once."""
    # These pods hold their cards for as long as the module's tests run: on a card that no other of them uses.
    ask = request(of=ANY, memory="16Mi", cel=cards.on(cards.AMD))
    for name, (parameters, _) in CONFIGS.items():
        unseen.create(*sharing(name, ask, config=[share_config(parameters)]))
    return unseen


@pytest.mark.parametrize("name", CONFIGS)
def test_a_share_config_that_is_wrong_is_refused_when_it_is_written(space: Space, name: str) -> None:
    parameters, words = CONFIGS[name]
    for make in (claim, template):
        with pytest.raises(Refused) as refused:
            space.create(make("bad", request(), config=[share_config(parameters)]))
        for word in words:
            assert word in refused.value.message


@pytest.mark.parametrize("name", CONFIGS)
def test_a_share_config_that_was_not_checked_is_refused_by_the_node_in_the_same_words(
    misconfigured: Space, name: str
) -> None:
    misconfigured.event(name, *CONFIGS[name][1], reason="FailedPrepareDynamicResources")


def test_a_share_that_asks_for_stronger_isolation_than_there_is_is_refused(space: Space) -> None:
    ask = request(memory="16Mi", cel=cards.on(cards.NVIDIA_40))
    space.create(*sharing("a", ask, config=[share_config(minimumIsolation={"memory": "hardware"})]))
    space.event("a", "hardware or stronger", "preload", reason="FailedPrepareDynamicResources")


def test_configs_of_other_drivers_are_none_of_our_business(space: Space) -> None:
    other = {"opaque": {"driver": "gpu.example.com", "parameters": {"apiVersion": "x/v1", "kind": "What"}}}
    space.create(*sharing("a", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40)), config=[other]))
    space.running("a")
    assert space.seen("a").memory_mib(0) == 1024


REFUSED_AMOUNTS = {
    "negative memory": ({"memory": "-1Gi"}, "memory"),
    "negative cores": ({"cores": "-1"}, "cores"),
    "memory so large that sums overflow": ({"memory": "8Ei"}, "memory"),
    "an unknown name": ({"memroy": "4Gi"}, "memroy"),
    "a qualified name": ({"dragoman.dev/memory": "4Gi"}, "dragoman.dev/memory"),
    "a name of another driver's": ({"gpu.example.com/memory": "4Gi"}, "gpu.example.com/memory"),
}


@pytest.mark.parametrize("kind", [RESOURCE_CLAIMS, TEMPLATES], ids=["claim", "template"])
@pytest.mark.parametrize("case", REFUSED_AMOUNTS)
def test_amounts_that_no_driver_can_mean_are_refused_when_they_are_written(
    space: Space, case: str, kind: Any
) -> None:
    capacity, named = REFUSED_AMOUNTS[case]
    make = claim if kind is RESOURCE_CLAIMS else template
    with pytest.raises(Refused) as refused:
        space.create(make("bad", request(capacity=capacity)))
    assert refused.value.status in (403, 422)
    assert named in refused.value.message


def test_amounts_in_sub_requests_are_looked_at_as_well(space: Space) -> None:
    asked = {
        "name": "card",
        "firstAvailable": [
            {"name": "big", "deviceClassName": NVIDIA, "capacity": {"requests": {"memory": "-4Gi"}}}
        ],
    }
    with pytest.raises(Refused) as refused:
        space.create(claim("bad", asked))
    assert "memory" in refused.value.message


def test_classes_of_other_drivers_may_name_their_capacities_as_they_like(space: Space) -> None:
    foreign = request(of="gpu.example.com", capacity={"gpu.example.com/slots": "3", "vram": "4Gi"})
    space.create(claim("foreign", foreign))
    assert space.claim("foreign")["spec"]["devices"]["requests"][0]["exactly"]["capacity"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param({"memory": "1.5Gi"}, (1536, None), id="a fraction of a GiB is whole MiB"),
        pytest.param({"memory": "1048577"}, (2, None), id="a byte more than a MiB is rounded up"),
        pytest.param({"memory": "1Gi", "cores": "0"}, (1024, None), id="cores 0 means no cap"),
        pytest.param({"memory": "1Gi", "cores": "1"}, (1024, 1), id="one percent is a cap"),
        pytest.param({"memory": "1Gi", "cores": "100"}, (1024, None), id="100 percent is no cap"),
        pytest.param({"cores": "30"}, (None, 30), id="cores alone come with the whole card's memory"),
    ],
)
def test_amounts_reach_the_container_as_whole_mib_and_whole_percent(
    space: Space, asked: dict[str, str], given: tuple[int | None, int | None]
) -> None:
    ask = request(capacity=asked, cel=cards.on(cards.NVIDIA_40))
    space.create(*sharing("a", ask))
    space.running("a")
    seen = space.seen("a")
    memory, cores = given
    assert (seen.memory_mib(0), seen.cores(0)) == (memory, cores)


def test_a_claim_larger_than_every_card_is_refused_when_it_is_written(space: Space) -> None:
    for make in (claim, template):
        with pytest.raises(Refused) as refused:
            space.create(make("bad", request(memory="900Gi")))
        assert "AmountTooLarge" in refused.value.message
        assert "capacity.requests.memory" in refused.value.message


def test_a_claim_larger_than_every_card_that_was_not_checked_stays_pending_and_an_event_says_why(
    unseen: Space,
) -> None:
    unseen.create(*sharing("large", request(memory="900Gi")))
    claim_name = unseen.wait_pod("large", unseen.claim_name, what="has its claim")
    said = unseen.event(claim_name, "memory")
    assert not results(unseen.claim(claim_name))
    assert "Mi" in said or "Gi" in said


def test_a_claim_made_anew_under_its_name_gets_what_the_new_one_asks(space: Space) -> None:
    for card in (cards.NVIDIA_40, cards.NVIDIA_24):
        space.create(claim("same", request(cel=cards.on(card))), pod("a", claims={"card": "same"}))
        space.running("a")
        (given,) = results(space.claim("same"))
        assert given["device"] == card.device
        assert card.uuid in space.seen("a").cards

        space.api.delete(RESOURCE_CLAIMS, "same", namespace=space.name)
        space.delete("a")
        waiting.wait_gone(space.api, RESOURCE_CLAIMS, "same", namespace=space.name)
