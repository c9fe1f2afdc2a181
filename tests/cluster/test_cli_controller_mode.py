"""`kubectl dragoman` where our own allocator decides: a stock Kubernetes that drops what makes shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.support import cards, people, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.people import Person
from tests.cluster.support.space import Space, open_space

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

ON = cards.on(cards.NVIDIA_40)


@pytest.fixture(scope="module")
def stock(images: Images) -> Iterator[Installation]:
    yield from stock_kubernetes.in_mode_controller(images, purpose="people")


@pytest.fixture
def space(stock: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    one = open_space(stock.api, request.node.name)
    yield one
    stock.expect_nothing_left(one.close())


@pytest.fixture
def others(stock: Installation) -> Iterator[Space]:
    """Somebody else's namespace."""
    one = open_space(stock.api, "somebody-else")
    yield one
    stock.expect_nothing_left(one.close())


@pytest.fixture(scope="module")
def admin(stock: Installation, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return people.administrator(stock.target, tmp_path_factory.mktemp("path"))


def test_status_tells_the_mode_and_counts_shares_that_the_server_does_not_show(
    admin: Person, space: Space
) -> None:
    space.create(*sharing("holds", request(memory="4Gi", cores="30", cel=ON)))
    space.running("holds")
    found = admin.dragoman("status", "-o", "json").document
    assert found["mode"]["seen"] == found["mode"]["wanted"] == "controller"
    assert found["totals"]["memory"]["usedBytes"] == 4 << 30
    assert found["totals"]["cores"]["usedPercent"] == 30


def test_simulate_comes_to_the_cards_that_our_allocator_gives(
    admin: Person, space: Space, tmp_path: Path
) -> None:
    objects = [one for name in ("one", "two") for one in sharing(name, request(memory="9Gi", cores="40"))]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = admin.dragoman("simulate", "-f", str(file), "-n", space.name, "-o", "json")
    assert (done.status, done.err) == (0, "")
    expected = {one["name"]: [each["card"] for each in one["shares"]] for one in done.document["steps"]}
    for name in ("one", "two"):
        space.create(*sharing(name, request(memory="9Gi", cores="40")))
        space.running(name)
    seen = {
        name: [one["device"] for one in space.claim_of(name)["status"]["allocation"]["devices"]["results"]]
        for name in ("one", "two")
    }
    assert seen == expected


def test_explain_names_the_holder_or_the_controllers_answer_as_rights_allow(
    admin: Person, stock: Installation, space: Space, others: Space, tmp_path: Path
) -> None:
    others.create(*sharing("theirs", request(memory="30Gi", cores="50", cel=ON)))
    others.running("theirs")
    space.create(*sharing("waits", request(memory="20Gi", cel=ON)))
    note = space.event("waits", "asks 20Gi, free 10Gi of 40Gi", reason="NoDevice")
    seen = admin.dragoman("explain", "pod/waits", "-n", space.name)
    assert "asks 20Gi, free 10Gi of 40Gi" in seen.out
    assert f"{others.name}/theirs-card-" in seen.out
    one = people.developer(admin, stock.api, space.name, tmp_path)
    told = one.dragoman("explain", "pod/waits")
    assert note in told.out
    assert others.name not in told.out


def test_a_pod_that_no_node_can_take_is_told_so_whoever_asks(
    admin: Person, stock: Installation, space: Space, tmp_path: Path
) -> None:
    template, one = sharing("waits", request(memory="1Gi", cel=ON))
    one["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "nowhere"}
    space.create(template, one)
    note = space.event("waits", "nodeSelector", reason="NoNode")
    seen = admin.dragoman("explain", "pod/waits", "-n", space.name, "-o", "json").document
    assert seen["answer"]["reason"] == "NoNode"
    told = people.developer(admin, stock.api, space.name, tmp_path).dragoman("explain", "pod/waits")
    assert note in told.out


def test_a_share_that_is_held_is_told_with_its_limits(
    admin: Person, stock: Installation, space: Space
) -> None:
    space.create(*sharing("holds", request(memory="4Gi", cores="30", cel=ON)))
    space.running("holds")

    def look() -> str:
        done = admin.dragoman("explain", "pod/holds", "-n", space.name)
        return done.out if "4096 MiB of memory" in done.out else ""

    text = waiting.eventually(look, what="the node has said which limits are in force")
    assert "4Gi, 30 % of compute" in text
