"""The hook of the isolation method `kernel` on real containerd and runc: one cluster for this file, in order.

Flow: this machine's tree of cgroup v2, with the files of the controller dmem added to each cgroup by a file
system of the tests -> the agent finds regions, publishes `kernel`, writes the hook into the CDI spec ->
runc runs it -> the limit stands in the container's own leaf before its entrypoint; where the controller
does not keep it, no container starts and the pod's event has the sentence.

Limits: the controller is not in the kernels that this was written on, so nothing here was ever limited by
one; all else is real: the cgroups, the process numbers, the order of things, and who is told what.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.kube.resources import ACCELERATOR_POLICIES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.cards import SimulatedCard
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import container, pod, request, sharing, template
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.target import Target
from tests.support import dmem_tree
from tests.support.dmem_tree import DmemTree

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

AMD = "amd.dragoman.dev"
GIB = 1 << 30
REGIONS = {
    cards.AMD: f"drm/{cards.AMD.pci}/vram0",
    cards.NVIDIA_24: f"nvidia/{cards.NVIDIA_24.pci}/vidmem",
}
ON_AMD = REGIONS[cards.AMD]
ON_NVIDIA = REGIONS[cards.NVIDIA_24]
POLICY = "kernel-first"
NEVER = "1970-01-01T00:00:00Z"
"""When a container was started that was not, as containerd says it."""


def _cgroup2() -> Path:
    """Where this machine has its tree of cgroup v2."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    pytest.skip("not run: this machine has no tree of cgroup v2")


@pytest.fixture(scope="module")
def target(kubernetes_version: str) -> Iterator[Target]:
    if not dmem_tree.possible():
        pytest.skip("not run: a tree that answers as the controller dmem needs root and /dev/fuse")
    with bare_cluster(purpose="kernel", version=kubernetes_version) as found:
        yield found


@pytest.fixture(scope="module")
def tree(target: Target) -> Iterator[DmemTree]:
    """The machine's cgroups with the controller's files, for two of the simulated cards."""
    capacity = {region: card.memory_gib * GIB for card, region in REGIONS.items()}
    with DmemTree(Path(str(target.node.state_root)) / "dmem", below=_cgroup2(), capacity=capacity) as found:
        yield found


@pytest.fixture(scope="module")
def installed(target: Target, images: Images, tree: DmemTree) -> Installation:
    images.load(target)
    found = Installation(target, images=images)
    found.host = {"cgroupRoot": str(tree.at)}
    found.install()
    found.wait_ready()
    _order(found, "kernel", "preload")
    found.wait_slices(
        lambda now: _isolation(now, cards.NVIDIA_24)[0] == "kernel", what="the policy is in force"
    )
    return found


@pytest.fixture(scope="module")
def place(installed: Installation) -> Space:
    return open_space(installed.api, "kernel")


def _order(installed: Installation, *isolation: str) -> None:
    installed.api.apply(
        {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": POLICY},
            "spec": {"isolation": list(isolation)},
        }
    )


def _isolation(slices: list[JSON], card: SimulatedCard) -> tuple[str, str]:
    for one in slices:
        for device in one["spec"].get("devices") or []:
            if device["name"] == card.device:
                found = device["attributes"]
                return found["memoryIsolation"]["string"], found["coresIsolation"]["string"]
    return "", ""


def _container_id(found: JSON, name: str = "app", *, kind: str = "containerStatuses") -> str:
    (one,) = (each for each in found["status"].get(kind) or [] if each["name"] == name)
    return str(one["containerID"]).removeprefix("containerd://")


def _limits(tree: DmemTree, container_id: str) -> dict[str, int]:
    """The limits that were written for the cgroup of that container, by region."""
    found: dict[str, int] = {}
    for folder, file, text in tree.writes:
        if folder.rpartition("/")[2] == container_id:
            assert file == "dmem.max"
            region, _, value = text.strip().partition(" ")
            assert region not in found, "written twice"
            found[region] = int(value)
    return found


def test_each_card_is_published_with_what_holds_its_shares(installed: Installation) -> None:
    now = installed.slices()
    assert _isolation(now, cards.AMD) == ("kernel", "none")
    assert _isolation(now, cards.NVIDIA_24) == ("kernel", "preload")
    assert _isolation(now, cards.NVIDIA_40) == ("preload", "preload")


def test_the_limit_stands_in_the_containers_own_cgroup(
    installed: Installation, place: Space, tree: DmemTree
) -> None:
    place.create(*sharing("memory", request(of=AMD, memory="5Gi")))
    place.running("memory")
    found = place.pod("memory")
    assert _limits(tree, _container_id(found)) == {ON_AMD: 5 * GIB}
    (leaf,) = {folder for folder, *_ in tree.writes}
    assert leaf.endswith(f"/pod{found['metadata']['uid']}/{_container_id(found)}")
    (pid, *_) = installed.target.node.container_pids(pod_uid=found["metadata"]["uid"], container="app")
    assert f"0::{leaf}\n" in Path(f"/proc/{pid}/cgroup").read_text()
    assert (tree.at / leaf.lstrip("/") / "dmem.max").read_text().splitlines()[0] == f"{ON_AMD} {5 * GIB}"


def test_the_claim_says_that_its_limit_was_seen_in_force(place: Space) -> None:
    def seen(claim: JSON) -> JSON:
        for entry in claim["status"].get("devices") or []:
            for condition in entry.get("conditions") or []:
                if (condition["type"], condition["status"]) == ("InForce", "True"):
                    return dict(condition)
        return {}

    name = place.claim_of("memory")["metadata"]["name"]
    assert place.wait_claim(name, seen, what="has its limit in force")


def test_no_library_is_in_a_container_whose_memory_the_kernel_holds(place: Space) -> None:
    seen = place.seen("memory")
    assert not seen.library
    assert [name for name in seen.raw["env"] if name.startswith("CUDA_DEVICE")] == []


def test_memory_is_held_by_the_kernel_while_the_library_holds_compute(place: Space, tree: DmemTree) -> None:
    place.create(*sharing("both", request(memory="3Gi", cores="40", cel=cards.on(cards.NVIDIA_24))))
    place.running("both")
    assert _limits(tree, _container_id(place.pod("both"))) == {ON_NVIDIA: 3 * GIB}
    seen = place.seen("both")
    assert seen.library
    assert (seen.memory_mib(0), seen.cores(0)) == (None, 40)


def test_two_cards_of_one_container_have_a_limit_each_in_one_cgroup(place: Space, tree: DmemTree) -> None:
    asked = (
        request("one", of=AMD, memory="2Gi"),
        request("two", memory="7Gi", cel=cards.on(cards.NVIDIA_24)),
    )
    place.create(*sharing("two-cards", *asked))
    place.running("two-cards")
    assert _limits(tree, _container_id(place.pod("two-cards"))) == {ON_AMD: 2 * GIB, ON_NVIDIA: 7 * GIB}


def test_an_init_container_and_the_one_after_it_have_the_limit_each_in_its_own_cgroup(
    place: Space, tree: DmemTree
) -> None:
    place.create(
        template("in-turn", request(of=AMD, memory="1Gi")),
        pod(
            "in-turn",
            container("app", "card"),
            templates={"card": "in-turn"},
            init=[container("first", "card", command=["/probe", "--once"])],
        ),
    )
    place.running("in-turn")
    found = place.pod("in-turn")
    first = _container_id(found, "first", kind="initContainerStatuses")
    for one in (first, _container_id(found)):
        assert _limits(tree, one) == {ON_AMD: GIB}


def test_a_container_that_starts_again_has_its_limit_again(
    installed: Installation, place: Space, tree: DmemTree
) -> None:
    before = place.pod("memory")
    node = installed.target.node
    (pid, *_) = node.container_pids(pod_uid=before["metadata"]["uid"], container="app")
    node.signal(pid, signal.SIGKILL)
    after = place.wait_pod(
        "memory",
        lambda one: one if waiting.running(one) and _container_id(one) != _container_id(before) else {},
        what="has a new container",
    )
    assert _limits(tree, _container_id(after)) == {ON_AMD: 5 * GIB}


def test_a_container_whose_limit_is_not_kept_never_starts_and_the_event_says_why(
    place: Space, tree: DmemTree
) -> None:
    tree.deaf = True
    place.create(*sharing("limitless", request(of=AMD, memory="1Gi")))
    said = place.event("limitless", "dragoman: the limit of memory region", reason="Failed")
    print(f"\nthe event: {said}")  # noqa: T201 - what a person reads, kept with the run
    assert f"dragoman: the limit of memory region {ON_AMD} is not in force: it reads max." in said
    ended = place.wait_pod("limitless", _not_started, what="has a container that could not be started")
    assert (ended["reason"], ended["startedAt"]) == ("StartError", NEVER)
    assert not waiting.running(place.pod("limitless"))


def _not_started(one: JSON) -> JSON:
    """How the first attempt to start a pod's only container ended: {} while there was none."""
    (status,) = one["status"].get("containerStatuses") or [{}]
    ends = (status.get(state, {}).get("terminated") for state in ("state", "lastState"))
    return next((dict(end) for end in ends if end), {})


def test_it_starts_as_soon_as_its_limit_can_be_put_in_force(place: Space, tree: DmemTree) -> None:
    tree.deaf = False
    place.touch("limitless")
    place.running("limitless")
    assert _limits(tree, _container_id(place.pod("limitless"))) == {ON_AMD: GIB}


def test_two_containers_at_the_same_time_are_refused_before_any_starts(place: Space, tree: DmemTree) -> None:
    place.create(
        template("at-once", request(of=AMD, memory="1Gi")),
        pod("at-once", container("one", "card"), container("two", "card"), templates={"card": "at-once"}),
    )
    place.event("at-once", "the kernel would give each of them all of it", reason="ConcurrentContainers")


def test_nothing_but_hard_limits_of_leaves_was_written_and_nothing_is_left(
    installed: Installation, place: Space, tree: DmemTree
) -> None:
    assert {file for _, file, _ in tree.writes} == {"dmem.max"}
    folders = {folder for folder, *_ in tree.writes}
    installed.expect_nothing_left(place.empty())
    waiting.eventually(
        lambda: not [one for one in folders if (tree.at / one.lstrip("/")).exists()],
        what="the cgroups went with their limits",
    )
    parents = {folder.rpartition("/")[0] for folder in folders}
    assert not parents & folders


def test_a_node_whose_kernel_has_no_such_controller_refuses_the_method_and_says_so(
    installed: Installation, place: Space
) -> None:
    installed.host = {}
    installed.install()
    installed.wait_ready()
    _order(installed, "kernel")
    installed.wait_slices(
        lambda now: _isolation(now, cards.AMD) == ("none", "none"), what="nothing is published as held"
    )
    place.create(*sharing("refused", request(of=AMD, memory="1Gi")))
    said = place.event("refused", reason="DmemControllerMissing")
    print(f"\nthe event: {said}")  # noqa: T201 - as above
    assert "cgroup" in said
    _order(installed, "preload")
    place.empty()
    installed.api.delete(ACCELERATOR_POLICIES, POLICY)
