"""`kubectl dragoman`, run by kubectl: as whoever runs the cluster, and as somebody with one namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from driver.kube.resources import RESOURCE_CLAIMS
from tests.cluster.support import cards, people, waiting
from tests.cluster.support.api import EVENTS, JSON
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import pod, request, share_config, sharing
from tests.cluster.support.people import Person
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.target import ROOT, Target
from tests.cluster.support.unchecked import unchecked

pytestmark = pytest.mark.cluster

ON = cards.on(cards.NVIDIA_40)


@pytest.fixture(scope="module")
def admin(installed: Installation, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return people.administrator(target, tmp_path_factory.mktemp("path"))


@pytest.fixture
def developer(admin: Person, space: Space, tmp_path: Path) -> Person:
    return people.developer(admin, space.api, space.name, tmp_path)


@pytest.fixture
def reader(admin: Person, space: Space, tmp_path: Path) -> Iterator[Person]:
    """A developer who was bound to the chart's role for readers as well."""
    yield people.reader(admin, space.api, space.name, tmp_path)
    people.reader_no_more(space.api, space.name)


@pytest.fixture
def others(installed: Installation) -> Iterator[Space]:
    """Somebody else's namespace."""
    one = open_space(installed.api, "somebody-else")
    yield one
    installed.expect_nothing_left(one.close())


def _waits(space: Space, others: Space) -> None:
    """Somebody else holds most of a card, and a pod of ours waits for more than is left."""
    others.create(*sharing("theirs", request(memory="30Gi", cores="50", cel=ON)))
    others.running("theirs")
    space.create(*sharing("waits", request(memory="20Gi", cel=ON)))
    space.wait_pod("waits", Space.claim_name, what="has its claim")


def test_status_shows_mode_nodes_and_what_is_held(
    admin: Person, installed: Installation, space: Space
) -> None:
    space.create(*sharing("holds", request(memory="4Gi", cores="30", cel=ON)))
    space.running("holds")
    done = admin.dragoman("status", "-o", "json")
    assert (done.status, done.err) == (0, "")
    found = done.document
    assert found["mode"]["seen"] == "native"
    (node,) = found["nodes"]
    assert node["name"] == installed.node
    assert node["agent"]["ready"] is True
    assert node["offered"] == len(cards.ALL)
    assert found["totals"]["memory"]["usedBytes"] >= 4 << 30
    text = admin.dragoman("status").out
    assert "native: kube-scheduler allocates" in text
    assert installed.node in text


def test_explain_names_the_holder_to_whoever_may_see_it(admin: Person, space: Space, others: Space) -> None:
    _waits(space, others)
    done = admin.dragoman("explain", "pod/waits", "-n", space.name)
    assert (done.status, done.err) == (0, "")
    assert "capacity in use" in done.out
    assert f"{others.name}/theirs-card-" in done.out
    claim = admin.dragoman("explain", f"claim/{Space.claim_name(space.pod('waits'))}", "-n", space.name)
    assert f"{others.name}/theirs-card-" in claim.out


def test_explain_with_one_namespace_shows_the_controllers_answer_and_the_missing_right(
    developer: Person, space: Space, others: Space
) -> None:
    _waits(space, others)

    def shown() -> str:
        """What the plugin says, once that is one of the controller's notes: its first may not be its last."""
        done = developer.dragoman("explain", "pod/waits")
        assert (done.status, done.err) == (0, "")
        notes = [str(one["message"]) for one in space.api.list(EVENTS, namespace=space.name)]
        return done.out if any("capacity in use" in note and note in done.out for note in notes) else ""

    text = waiting.eventually(shown, what="the controller's answer is shown")
    assert "list resourceclaims.resource.k8s.io in all namespaces" in text
    assert others.name not in text
    assert "theirs" not in text


def test_explain_with_the_charts_role_for_readers_computes_its_own_answer_and_names_holders(
    reader: Person, space: Space, others: Space
) -> None:
    _waits(space, others)
    done = reader.dragoman("explain", "pod/waits", "-o", "json")
    assert (done.status, done.err) == (0, "")
    assert done.document["neededRights"] == []
    assert done.document["missingRights"] == ["list pods in all namespaces"]
    assert done.document["answer"]["reason"] == "NoDevice"
    held = [holder for card in done.document["answer"]["cards"] for holder in card["holders"]]
    assert any(holder["claim"].startswith(f"{others.name}/theirs-card-") for holder in held)
    assert reader.dragoman("status").status == 0


STRONG = share_config(minimumIsolation={"memory": "hardware"})
WAITS: dict[str, tuple[list[JSON], str, str]] = {
    "CapacityInUse": (
        sharing("waits", request(memory="40Gi", cel=ON)),
        "asks 40Gi, free 39Gi of 40Gi",
        "asks 40Gi, free 39Gi of 40Gi",
    ),
    "SelectorFalse": (
        sharing("waits", request(cel='device.attributes["dragoman.dev"].model == "none"')),
        'model == "none" is false',
        'model == "none" is false',
    ),
    "NoDevice": (
        sharing("waits", request(count=9, memory="1Gi")),
        "9 cards are wanted of one node",
        "9 cards are wanted of one node",
    ),
    "ClassMissing": (
        sharing("waits", request(of="nothing.example.com")),
        "nothing.example.com, which does not exist",
        "Whether it asks for cards of ours cannot be seen",
    ),
    "TemplateMissing": (
        [pod("waits", templates={"card": "nothing"})],
        "There is no ResourceClaimTemplate nothing",
        "There is no ResourceClaimTemplate nothing",
    ),
    "Missing": (
        [pod("waits", claims={"card": "nothing"})],
        "There is no ResourceClaim nothing",
        "There is no ResourceClaim nothing",
    ),
    "MinimumIsolationUnmet": (
        sharing("waits", request(memory="1Gi", cel=ON), config=[STRONG]),
        "MinimumIsolationUnmet",
        "MinimumIsolationUnmet",
    ),
}
"""A pod that cannot start by the reason, and what a reader of the cluster and an app developer are told."""


@pytest.mark.parametrize("reason", WAITS)
def test_both_kinds_of_people_are_told_each_what_they_may_see(
    reason: str, reader: Person, space: Space, others: Space
) -> None:
    objects, seen, told = WAITS[reason]
    others.create(*sharing("theirs", request(memory="1Gi", cel=ON)))
    others.running("theirs")
    # What no card has would be refused when it is written.
    with unchecked(space) if reason == "CapacityRequestTooLarge" else contextlib.nullcontext():
        space.create(*objects)

    def says(words: str, *, computed: bool) -> str:
        done = reader.dragoman("explain", "pod/waits")
        assert (done.status, done.err) == (0, ""), done.err
        if words not in " ".join(done.out.split()):
            return ""
        if computed and f'"{reason}"' not in reader.dragoman("explain", "pod/waits", "-o", "json").out:
            return ""
        return str(done.out)

    waiting.eventually(lambda: says(seen, computed=True), what=f"a reader is told {seen}")
    people.reader_no_more(space.api, space.name)
    text = waiting.eventually(lambda: says(told, computed=False), what=f"a developer is told {told}")
    assert others.name not in text
    assert "theirs" not in text


def test_explain_of_a_running_pod_says_what_it_holds_and_its_limits(developer: Person, space: Space) -> None:
    space.create(*sharing("holds", request(memory="4Gi", cores="30", cel=ON)))
    space.running("holds")
    claim = Space.claim_name(space.pod("holds"))
    waiting.wait_for(
        space.api,
        RESOURCE_CLAIMS,
        claim,
        lambda one: (one.get("status") or {}).get("devices"),
        what="has the node's word",
        namespace=space.name,
    )
    done = developer.dragoman("explain", "pod/holds", "-o", "json")
    (one,) = done.document["claims"]
    (share,) = one["shares"]
    assert (share["card"], share["memory"], share["coresPercent"]) == (cards.NVIDIA_40.device, "4Gi", 30)
    assert "4096 MiB of memory" in share["limits"]
    assert share["isolation"]["memory"] == "preload"


def test_simulate_says_what_would_fit_and_creates_nothing(admin: Person, space: Space) -> None:
    path = ROOT / "manifests" / "examples" / "two-containers.yaml"
    done = admin.dragoman("simulate", "-f", str(path), "-n", space.name, "-o", "json")
    assert (done.status, done.err) == (0, "")
    assert [one["outcome"] for one in done.document["steps"]] == ["Fits"]
    assert space.pods() == []
    assert space.claims() == []


def test_simulate_comes_to_the_same_cards_as_kube_scheduler(
    admin: Person, space: Space, tmp_path: Path
) -> None:
    objects = [one for name in ("one", "two") for one in sharing(name, request(memory="9Gi", cores="40"))]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = admin.dragoman("simulate", "-f", str(file), "-n", space.name, "-o", "json")
    expected = {one["name"]: [each["card"] for each in one["shares"]] for one in done.document["steps"]}
    for name in ("one", "two"):
        space.create(*sharing(name, request(memory="9Gi", cores="40")))
        space.running(name)
    seen = {
        name: [one["device"] for one in space.claim_of(name)["status"]["allocation"]["devices"]["results"]]
        for name in ("one", "two")
    }
    assert seen == expected


def test_simulate_says_no_with_the_reason(admin: Person, space: Space, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(sharing("huge", request(memory="4000Gi"))))
    done = admin.dragoman("simulate", "-f", str(file), "-n", space.name)
    assert (done.status, done.err) == (1, "")
    assert "asks 4000Gi" in done.out


def test_without_the_right_there_is_one_sentence(developer: Person) -> None:
    done = developer.dragoman("status")
    assert (done.status, done.out) == (2, "")
    assert "list acceleratornodes.dragoman.dev" in done.err


def test_credentials_that_nobody_knows_are_one_sentence(developer: Person) -> None:
    document = yaml.safe_load(developer.kubeconfig.read_text())
    for one in document["users"]:
        one["user"] = {"token": "not-a-token-of-this-cluster"}
    developer.kubeconfig.write_text(yaml.safe_dump(document))
    done = developer.dragoman("explain", "pod/any")
    assert (done.status, done.out) == (2, "")
    assert "log in again" in done.err
    assert "not-a-token-of-this-cluster" not in done.err
