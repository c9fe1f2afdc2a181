"""Each file of manifests/examples, applied as it is: what its containers see, or why they are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import yaml

from tests.cluster.support import cards, waiting
from tests.cluster.support.api import EVENTS, JSON
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.probe import Limit
from tests.cluster.support.space import Space, results
from tests.cluster.support.target import ROOT

pytestmark = pytest.mark.cluster

EXAMPLES = ROOT / "manifests" / "examples"
NVIDIA_CARDS = (cards.NVIDIA_24.uuid, cards.NVIDIA_40.uuid)

Amounts = tuple[int | None, int | None]
WHOLE: Amounts = (None, None)


@dataclass(frozen=True)
class Expected:
    """What the containers of an example see: (memory in MiB, percent) for each card of their view."""

    containers: Mapping[str, Mapping[str, tuple[Amounts, ...]]]
    """Pod to container to limits, in the order of the container's view."""

    needs: tuple[str, ...] = ()
    """Labels of the namespace."""

    devices: tuple[str, ...] = ()
    """Cards whose device nodes are there without the card being the container's."""


RUNS = {
    "memory-and-cores": Expected({"inference": {"main": ((4096, 30),)}}),
    "memory-only": Expected({"notebook": {"main": ((2048, None),)}}),
    "whole-card": Expected({"training": {"main": (WHOLE,)}}),
    "two-different-cards": Expected({"data-parallel": {"main": ((8192, 50), (8192, 50))}}),
    "two-containers": Expected({"pipeline": {"encoder": ((1024, 10),), "model": ((6144, 60),)}}),
    "init-then-app": Expected({"warmed-up": {"warm-up": ((3072, 25),), "app": ((3072, 25),)}}),
    "shared-whole-card": Expected({"alice": {"main": (WHOLE,)}, "bob": {"main": (WHOLE,)}}),
    "first-available": Expected({"fine-tuning": {"main": (WHOLE,)}}),
    "admin-access-monitoring": Expected(
        {"monitor": {"main": ()}},
        needs=("resource.kubernetes.io/admin-access",),
        devices=tuple(card.device for card in cards.ALL),
    ),
    "extended-resource": Expected({"unchanged": {"main": (WHOLE,)}}),
}

REFUSED = {
    "refused-two-containers-one-share": "both-at-once",
    "refused-two-shares-one-card": "twice-the-same",
}


def test_every_example_is_applied_by_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == RUNS.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", RUNS)
def test_the_containers_of_an_example_see_exactly_what_it_asks_for(space: Space, name: str) -> None:
    expected = RUNS[name]
    space.set_labels(dict.fromkeys(expected.needs, "true"))
    space.apply(EXAMPLES / f"{name}.yaml")
    space.running(*expected.containers)
    for pod, containers in expected.containers.items():
        for container, amounts in containers.items():
            seen = space.seen(pod, container=container)
            assert [(one.memory_mib, one.cores) for one in seen.limits] == list(amounts), (pod, container)
            # A limit that nothing in the process holds would be a number on paper.
            assert seen.library == any(amount != WHOLE for amount in amounts), (pod, container)
            assert len(set(seen.cards)) == len(seen.cards)
            nodes = [*expected.devices, *map(_device, seen.cards)]
            assert seen.devices == sorted(f"/dev/dragoman/{node}" for node in nodes)
            assert (seen.mount("/etc/ld.so.preload") is not None) == seen.library


def _device(uuid: str) -> str:
    return next(card.device for card in cards.ALL if card.uuid == uuid)


@pytest.mark.parametrize("name", REFUSED)
def test_an_example_that_is_refused_says_so_in_the_words_of_its_own_comment(space: Space, name: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    space.apply(path)
    wait_promised(space, REFUSED[name], text=path.read_text())


def wait_promised(space: Space, pod: str, *, text: str) -> None:
    """Waits until a pod is told what a file's comment says; a kubelet may have had another reason before."""

    def told(events: list[JSON]) -> bool:
        return any(
            one["involvedObject"].get("name") == pod
            and one.get("reason") == "FailedPrepareDynamicResources"
            and is_promised(text, one.get("message") or "")
            for one in events
        )

    what = f"{pod} is told what its file says"
    waiting.wait_all(space.api, EVENTS, told, what=what, namespace=space.name)


def is_promised(text: str, said: str) -> bool:
    """Whether what was said holds the message of a file's comment: its indented lines, as one line.

    ``...`` stands for what differs from card to card.
    """
    promised = " ".join(line[4:].strip() for line in text.splitlines() if line.startswith("#   "))
    return re.search(".*?".join(re.escape(part) for part in promised.split("...")), said) is not None


def test_two_containers_see_only_their_own_share(space: Space) -> None:
    space.apply(EXAMPLES / "two-containers.yaml")
    space.running("pipeline")
    regions = [
        space.seen("pipeline", container=name).mount("/usr/local/dragoman/region")
        for name in ("encoder", "model")
    ]
    assert None not in regions
    roots = [one["root"] for one in regions if one]
    assert len(set(roots)) == 2, "each share counts in a region of its own"


def test_the_first_alternative_is_taken_while_it_is_free_and_the_second_when_it_is_not(
    space: Space, installed: Installation
) -> None:
    space.create(*sharing("holder", request(memory="1Gi", cel=cards.on(cards.NVIDIA_24))))
    space.running("holder")
    space.apply(EXAMPLES / "first-available.yaml")
    space.running("fine-tuning")
    assert space.seen("fine-tuning", container="main").cards == [cards.NVIDIA_40.uuid]
    (given,) = results(space.claim_of("fine-tuning"))
    assert given["request"] == "card/of-40-gib"

    # Claims go after their pods: while one of the two is left, the second card may be free and the first not.
    space.empty()
    space.apply(EXAMPLES / "first-available.yaml")
    space.running("fine-tuning")
    assert space.seen("fine-tuning", container="main").cards == [cards.NVIDIA_24.uuid]


def test_a_monitor_with_admin_access_takes_nothing_away_from_anybody(space: Space) -> None:
    space.set_labels({"resource.kubernetes.io/admin-access": "true"})
    space.apply(EXAMPLES / "admin-access-monitoring.yaml")
    space.running("monitor")
    for card in (cards.NVIDIA_24, cards.NVIDIA_40):
        space.create(*sharing(f"whole-{card.memory_gib}", request(cel=cards.on(card))))
    space.running("whole-24", "whole-40")
    assert space.seen("whole-24").limits == [Limit(cards.NVIDIA_24.uuid, None, None)]


def test_a_monitor_is_refused_in_a_namespace_that_is_not_labelled_for_it(space: Space) -> None:
    with pytest.raises(Exception, match="admin-access"):
        space.apply(EXAMPLES / "admin-access-monitoring.yaml")


def test_examples_name_no_namespace_and_no_file_outside() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert "namespace" not in document["metadata"], path.name
