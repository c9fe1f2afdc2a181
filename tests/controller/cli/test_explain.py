"""What `explain` finds out, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.kube.client import UnreachableError, error_for
from tests.controller.cli.cases import CASES, NOTE, two_nodes, waiting
from tests.controller.cli.world import CLASS, World, allocated, card, claim, dragoman, pod


def test_holders_come_with_the_right_to_see_them(tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="24Gi"))
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    held = {one["card"]: [each["claim"] for each in one["holders"]] for one in found["answer"]["cards"]}
    assert held == {"nvidia-a": ["team-b/infer"], "nvidia-b": ["team-c/whole"], "nvidia-c": ["team-b/batch"]}
    assert found["computed"]


def test_without_it_the_controllers_answer_is_shown_and_the_missing_rights_are_named(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a"), claim("want", memory="24Gi"))
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert NOTE in done.out
    for right in (
        "list acceleratornodes.dragoman.dev",
        "list resourceslices.resource.k8s.io",
        "list resourceclaims.resource.k8s.io in all namespaces",
        "list deviceclasses.resource.k8s.io",
    ):
        assert f"  {right}\n" in done.out
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert not found["computed"]
    assert found["answer"] is None


def test_without_an_answer_of_the_controller_that_is_said(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a"), claim("want", memory="24Gi"))
    world.events.clear()
    assert "There is none yet" in dragoman(world, tmp_path, "explain", "pod/train").out


def test_without_the_right_to_see_events_that_is_said(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a", forbidden=("events",)), claim("want", memory="24Gi"))
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert "without the right to list events in namespace team-a" in done.out


def test_events_of_others_about_the_pod_are_not_ours_to_tell(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a"), claim("want", memory="24Gi"))
    world.events[0]["reportingComponent"] = "somebody.example.com/else"
    assert NOTE not in dragoman(world, tmp_path, "explain", "pod/train").out


def test_the_controller_saying_the_same_of_pod_and_claim_is_told_once(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a"), claim("want", memory="24Gi"))
    about_claim = {**world.events[0], "involvedObject": {"kind": "ResourceClaim", "name": "want"}}
    world.events.append({**about_claim, "metadata": {"name": "again", "namespace": "team-a"}})
    assert dragoman(world, tmp_path, "explain", "pod/train").out.count(NOTE) == 1


@pytest.mark.parametrize("mode", ["native", "controller"])
def test_both_modes_count_with_what_is_held(mode: str, tmp_path: Path) -> None:
    world = waiting(two_nodes(mode), claim("want", memory="24Gi"), claim("little", memory="1Gi"))
    world.pods.append(pod("small", "little"))
    refused = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    fits = dragoman(world, tmp_path, "explain", "pod/small", "-o", "json").document
    assert refused["answer"]["fits"] == 0
    assert fits["state"] == "CardsAvailable"


def test_a_share_that_is_written_in_a_share_allocation_counts_as_what_was_given(tmp_path: Path) -> None:
    world = World(mode="controller", version="v1.36.3").node("n1", card("a", gib=40)).controllers()
    world.claims.append(allocated(claim("held"), "n1", "a", number=False, memory="30Gi"))
    waiting(world, claim("want", memory="10Gi"))
    assert dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document["answer"]["fits"] == 1


def test_amounts_that_were_carried_over_count_after_an_upgrade(tmp_path: Path) -> None:
    world, arguments = CASES["in-use-controller"]()
    world.version = "v1.36.3"
    found = dragoman(world, tmp_path, *arguments, "-o", "json").document
    assert "asks 24Gi" in found["answer"]["grounds"][0]["text"]


def test_claims_of_a_pod_are_decided_together(tmp_path: Path) -> None:
    world = World().node("n1", card("a", gib=40)).controllers()
    waiting(world, claim("one", memory="30Gi"), claim("two", memory="30Gi"))
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert found["answer"]["fits"] == 0


def test_a_claim_that_is_allocated_pins_the_pod_to_its_node(tmp_path: Path) -> None:
    world = World().node("n1", card("a")).node("n2", card("b")).controllers()
    world.claims.append(allocated(claim("first"), "n2", "b", memory="40Gi"))
    waiting(world, claim("second", memory="1Gi"))
    world.pods[-1]["spec"]["resourceClaims"].append({"name": "first", "resourceClaimName": "first"})
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert found["answer"]["fits"] == 0
    left = {one["message"]: one["nodes"] for one in found["answer"]["leftOut"]}
    assert left == {"another claim of the pod is allocated on another node": ["n1"]}


def test_administrative_access_holds_nothing_of_a_card(tmp_path: Path) -> None:
    world = World().node("n1", card("a")).controllers()
    looking = allocated(claim("looking"), "n1", "a")
    looking["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True
    world.claims.append(looking)
    world.pods.append(pod("monitor", "looking", node="n1", phase="Running"))
    waiting(world, claim("want"))
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert found["answer"]["fits"] == 1
    assert "a look, no share" in dragoman(world, tmp_path, "explain", "pod/monitor").out


@pytest.mark.parametrize(("mode", "counts"), [("native", False), ("controller", True)])
def test_a_resource_that_a_class_has_by_the_webhooks_word_alone_is_nothing_to_kube_scheduler(
    mode: str, counts: bool, tmp_path: Path
) -> None:
    annotations = {"dragoman.dev/extended-resource": "example.com/gold"}
    asks = {"example.com/gold": "1"}
    world = two_nodes(mode)
    world.classes.append({**CLASS, "metadata": {"name": "gold", "annotations": annotations}})
    world.pods.append(pod("train", containers=[{"name": "main", "resources": {"requests": asks}}]))
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert bool(found["claims"]) is counts


def test_few_cards_of_many_nodes_are_listed_unless_all_are_wanted(tmp_path: Path) -> None:
    world = World()
    for number in range(60):
        world.node(f"n{number:02}", card(f"a{number}"), card(f"b{number}"))
    waiting(world, claim("want", memory="100Gi"))
    some = dragoman(world, tmp_path, "explain", "pod/train")
    assert len(some.out.splitlines()) < 40
    assert "52 more with --all" in some.out
    every = dragoman(world, tmp_path, "explain", "pod/train", "--all")
    assert all(f" b{number} " in every.out for number in range(60))


def test_many_holders_of_a_card_are_counted_unless_all_are_wanted(tmp_path: Path) -> None:
    world = World().node("n1", card("a", gib=40))
    world.claims += [allocated(claim(f"held-{n}"), "n1", "a", memory="4Gi") for n in range(10)]
    waiting(world, claim("want", memory="4Gi"))
    assert "6 more" in dragoman(world, tmp_path, "explain", "pod/train").out
    assert "team-a/held-9" in dragoman(world, tmp_path, "explain", "pod/train", "--all").out


def test_what_others_wrote_cannot_steer_the_terminal(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-a"), claim("want", memory="24Gi"))
    world.events[0]["message"] = "\x1b[2J\x1b]0;title\x07red\u202egreen\nfake line"
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert not set("\x1b\x07\u202e") & set(done.out)
    assert "\nfake line" not in done.out


@pytest.mark.parametrize("name", ["train", "pod/", "node/n1", "pod/a/b", "/x"])
def test_what_is_neither_a_pod_nor_a_claim_is_refused(name: str, tmp_path: Path) -> None:
    done = dragoman(World(), tmp_path, "explain", name)
    assert done.status == 2
    assert "is neither pod/NAME nor claim/NAME" in done.err


@pytest.mark.parametrize("what", ["pod/none", "claim/none"])
def test_what_does_not_exist_is_told_with_its_namespace(what: str, tmp_path: Path) -> None:
    done = dragoman(two_nodes(), tmp_path, "explain", what, "-n", "team-x")
    assert done.status == 2
    assert "none in namespace team-x" in done.err
    assert done.err.count("\n") == 1


def test_a_misspelt_name_costs_no_list_of_the_cluster(tmp_path: Path) -> None:
    world = two_nodes()
    dragoman(world, tmp_path, "explain", "pod/none")
    assert world.transport is not None
    assert [one.path for one in world.transport.requests] == ["/api/v1/namespaces/team-a/pods/none"]


def test_a_pod_that_may_not_be_read_is_told_with_the_remedy(tmp_path: Path) -> None:
    world = waiting(two_nodes(namespace_only="team-b"), claim("want"))
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert done.status == 2
    assert "Ask whoever runs the cluster for this right" in done.err


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        (UnreachableError("The API server did not answer.", status=0), "--context or --kubeconfig"),
        (error_for(401, message="Unauthorized"), "log in again"),
        (error_for(429, message="Too many requests"), "try again"),
        (error_for(500, message="etcd is gone"), "etcd is gone"),
    ],
)
def test_a_server_that_gives_no_answer_is_one_sentence(
    failure: UnreachableError, remedy: str, tmp_path: Path
) -> None:
    done = dragoman(two_nodes(fail=failure), tmp_path, "explain", "pod/train")
    assert (done.status, done.out) == (2, "")
    assert remedy in done.err
    assert done.err.count("\n") == 1


def test_a_claim_without_a_pod_says_so(tmp_path: Path) -> None:
    world = two_nodes()
    world.claims.append(claim("want", memory="24Gi"))
    done = dragoman(world, tmp_path, "explain", "claim/want")
    assert "No pod uses it yet; it is allocated when one does." in done.out


def test_a_claim_is_explained_for_the_nodes_of_the_pod_that_waits_with_it(tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="1Gi"), nodeSelector={"pool": "none"})
    found = dragoman(world, tmp_path, "explain", "claim/want", "-o", "json").document
    assert found["answer"]["nodes"] == 0


def test_a_claim_from_a_template_that_is_not_made_yet_is_told(tmp_path: Path) -> None:
    world = two_nodes()
    world.templates.append({"metadata": {"name": "t", "namespace": "team-a"}, "spec": {}})
    world.pods.append(pod("train", template="t"))
    done = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert [one["state"] for one in done["claims"]] == ["NotMade"]


def test_a_claim_that_was_made_and_that_the_pods_status_does_not_name_is_told(tmp_path: Path) -> None:
    # kubernetes/kubernetes#138407, seen on 1.36.3: the names of several claims come and go.
    world = two_nodes()
    world.templates.append({"metadata": {"name": "t", "namespace": "team-a"}, "spec": {}})
    waits = pod("train", template="t", node="node-1")
    world.pods.append(waits)
    (entry,) = waits["spec"]["resourceClaims"]
    for name, owner in (("train-c0-abcde", waits["metadata"]["uid"]), ("train-c0-older", "somebody-else")):
        made = claim(name, memory="1Gi")
        made["metadata"]["annotations"] = {"resource.kubernetes.io/pod-claim-name": entry["name"]}
        made["metadata"]["ownerReferences"] = [{"kind": "Pod", "name": "train", "uid": owner}]
        world.claims.append(made)
    (found,) = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document["claims"]
    assert found["state"] == "NotNamed"
    assert "train-c0-abcde" in found["words"]
    text = dragoman(world, tmp_path, "explain", "pod/train").out
    assert "kubernetes/kubernetes#138407" in text
    assert "delete it" in text
