"""What `simulate` decides, in which order, and that nothing is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controller.cli.cases import EXAMPLES, two_nodes
from tests.controller.cli.world import CLASS, JSON, World, allocated, card, claim, dragoman, pod

ALL_EXAMPLES = sorted(EXAMPLES.glob("*.yaml"))


def write(folder: Path, *objects: JSON) -> str:
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def template(name: str, **asks: Any) -> JSON:
    made = claim(name, **asks)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": made["spec"]},
    }


def fresh(document: JSON) -> JSON:
    """As an author writes it: in the namespace of the command."""
    metadata = {"name": document["metadata"]["name"]}
    return {**document, "metadata": metadata}


def one_card(**fields: Any) -> World:
    return World(**fields).node("n1", card("a", gib=40)).controllers()


def outcomes(document: JSON) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in document["steps"]}


def test_each_pod_is_decided_on_what_those_before_it_leave(tmp_path: Path) -> None:
    pods = [fresh(pod(name, template="t")) for name in ("one", "two", "three")]
    file = write(tmp_path, template("t", memory="16Gi"), *pods)
    done = dragoman(one_card(), tmp_path, "simulate", "-f", file, "-o", "json")
    assert outcomes(done.document) == {"one": "Fits", "two": "Fits", "three": "Refused"}
    assert done.status == 1
    (refused,) = [one for one in done.document["steps"] if one["outcome"] == "Refused"]
    holders = {each["claim"] for one in refused["answer"]["cards"] for each in one["holders"]}
    assert holders == {"team-a/one-made", "team-a/two-made"}


def test_the_higher_priority_is_decided_first(tmp_path: Path) -> None:
    low, high = fresh(pod("low", template="t")), fresh(pod("high", template="t", priority=10))
    file = write(tmp_path, template("t", memory="30Gi"), low, high)
    found = dragoman(one_card(), tmp_path, "simulate", "-f", file, "-o", "json").document
    assert [one["name"] for one in found["steps"]] == ["high", "low"]
    assert outcomes(found) == {"high": "Fits", "low": "Refused"}


@pytest.mark.parametrize("mode", ["native", "controller"])
def test_what_fits_is_told_with_card_and_share(mode: str, tmp_path: Path) -> None:
    file = write(tmp_path, template("t", memory="4Gi", cores="30"), fresh(pod("one", template="t")))
    done = dragoman(one_card(mode=mode), tmp_path, "simulate", "-f", file, "-o", "json")
    assert done.status == 0
    (share,) = done.document["steps"][0]["shares"]
    assert (share["node"], share["card"], share["memory"], share["coresPercent"]) == ("n1", "a", "4Gi", 30)


def test_on_a_server_that_drops_amounts_the_file_still_asks_for_them(tmp_path: Path) -> None:
    file = write(tmp_path, template("t", memory="4Gi"), fresh(pod("one", template="t")))
    world = one_card(mode="controller", version="v1.34.4")
    (share,) = dragoman(world, tmp_path, "simulate", "-f", file, "-o", "json").document["steps"][0]["shares"]
    assert share["memory"] == "4Gi"


def test_a_stored_template_that_was_not_stamped_is_refused_there(tmp_path: Path) -> None:
    world = one_card(mode="controller", version="v1.34.4")
    world.templates.append({**template("t"), "metadata": {"name": "t", "namespace": "team-a"}})
    file = write(tmp_path, fresh(pod("one", template="t")))
    found = dragoman(world, tmp_path, "simulate", "-f", file, "-o", "json").document
    assert found["steps"][0]["reason"] == "ClaimNotStamped"


def test_a_claim_that_two_pods_name_is_allocated_once(tmp_path: Path) -> None:
    pods = [fresh(pod(name, "shared")) for name in ("one", "two")]
    file = write(tmp_path, fresh(claim("shared")), *pods)
    found = dragoman(one_card(), tmp_path, "simulate", "-f", file, "-o", "json").document
    assert outcomes(found) == {"one": "Fits", "two": "Fits"}


def test_claims_and_templates_that_the_file_only_names_are_read_from_the_cluster(tmp_path: Path) -> None:
    world = one_card()
    world.claims.append(allocated(claim("held"), "n1", "a", memory="10Gi"))
    world.templates.append({**template("t", memory="20Gi"), "metadata": {"name": "t", "namespace": "team-a"}})
    file = write(tmp_path, fresh(pod("one", "held", template="t")))
    found = dragoman(world, tmp_path, "simulate", "-f", file, "-o", "json").document
    assert [one["memory"] for one in found["steps"][0]["shares"]] == ["10Gi", "20Gi"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [(pod("one", template="nix"), "TemplateMissing"), (pod("one", "nix"), "ClaimMissing")],
)
def test_what_is_nowhere_is_named(made: JSON, reason: str, tmp_path: Path) -> None:
    done = dragoman(one_card(), tmp_path, "simulate", "-f", write(tmp_path, fresh(made)), "-o", "json")
    assert (done.status, done.document["steps"][0]["reason"]) == (1, reason)


def test_a_claim_that_exists_already_is_what_the_server_stored_of_it(tmp_path: Path) -> None:
    world = one_card(mode="controller", version="v1.34.4")
    # Its amounts were dropped while the webhook was away.
    world.claims.append(claim("one"))
    file = write(tmp_path, fresh(claim("one", memory="1Gi")), fresh(pod("p", "one")))
    found = dragoman(world, tmp_path, "simulate", "-f", file, "-o", "json").document
    assert found["steps"][0]["reason"] == "ClaimNotStamped"


def test_a_class_of_the_file_counts(tmp_path: Path) -> None:
    selector = {"cel": {"expression": 'device.driver == "dragoman.dev"'}}
    own = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "mine"},
        "spec": {"selectors": [selector]},
    }
    file = write(tmp_path, own, template("t", memory="1Gi", of="mine"), fresh(pod("one", template="t")))
    assert dragoman(one_card(), tmp_path, "simulate", "-f", file).status == 0


def test_workloads_stand_for_their_pods(tmp_path: Path) -> None:
    spec = {
        "containers": [{"name": "c"}],
        "resourceClaims": [{"name": "x", "resourceClaimTemplateName": "t"}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"replicas": 3, "template": {"spec": spec}},
    }
    file = write(tmp_path, template("t", memory="20Gi"), deployment)
    found = dragoman(one_card(), tmp_path, "simulate", "-f", file, "-o", "json").document
    assert outcomes(found) == {"d-0": "Fits", "d-1": "Fits", "d-2": "Refused"}


def test_kinds_that_have_no_part_in_it_are_counted(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    file = write(tmp_path, service, fresh(pod("one")))
    done = dragoman(one_card(), tmp_path, "simulate", "-f", file)
    assert "Passed over: 1 Service." in done.out
    assert "needs nothing of ours" in done.out
    assert done.status == 0


def test_a_gate_is_named_and_passed(tmp_path: Path) -> None:
    gated = fresh(pod("one", template="t", schedulingGates=[{"name": "example.com/queue"}]))
    done = dragoman(
        one_card(), tmp_path, "simulate", "-f", write(tmp_path, template("t", memory="1Gi"), gated)
    )
    assert "example.com/queue" in done.out
    assert done.status == 0


def test_a_claim_that_no_pod_uses_is_decided_by_itself(tmp_path: Path) -> None:
    done = dragoman(one_card(), tmp_path, "simulate", "-f", write(tmp_path, fresh(claim("alone"))))
    assert "No pod of the file uses it" in done.out
    assert done.status == 0


def test_an_isolation_that_no_card_has_does_not_fit(tmp_path: Path) -> None:
    asks = template("t", memory="1Gi")
    parameters = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "ShareConfig",
        "minimumIsolation": {"memory": "hardware"},
    }
    opaque = {"driver": "dragoman.dev", "parameters": parameters}
    asks["spec"]["spec"]["devices"]["config"] = [{"opaque": opaque}]
    done = dragoman(
        one_card(), tmp_path, "simulate", "-f", write(tmp_path, asks, fresh(pod("one", template="t")))
    )
    assert done.status == 1
    assert "every node will refuse the pod" in done.out


@pytest.mark.parametrize(("mode", "notes"), [("native", 0), ("controller", 1)])
def test_extended_resources_fit_whoever_makes_a_claim_of_them(mode: str, notes: int, tmp_path: Path) -> None:
    asks = {"deviceclass.resource.kubernetes.io/nvidia.dragoman.dev": "1"}
    one = fresh(pod("p", containers=[{"name": "main", "resources": {"requests": asks, "limits": asks}}]))
    done = dragoman(one_card(mode=mode), tmp_path, "simulate", "-f", write(tmp_path, one), "-o", "json")
    (step,) = done.document["steps"]
    assert step["outcome"] == "Fits"
    assert len(step["notes"]) == notes


def test_a_class_whose_extended_resource_the_server_dropped_is_known_by_what_was_carried_over(
    tmp_path: Path,
) -> None:
    annotations = {"dragoman.dev/extended-resource": "example.com/gold"}
    gold = {**CLASS, "metadata": {"name": "gold", "annotations": annotations}}
    asks = {"example.com/gold": "1"}
    one = fresh(pod("p", containers=[{"name": "main", "resources": {"requests": asks, "limits": asks}}]))
    world = World(mode="controller", classes=[CLASS, gold]).node("n1", card("a", gib=40)).controllers()
    done = dragoman(world, tmp_path, "simulate", "-f", write(tmp_path, one), "-o", "json")
    assert done.document["steps"][0]["outcome"] == "Fits"


def test_what_was_carried_over_for_old_servers_is_nothing_to_kube_scheduler(tmp_path: Path) -> None:
    annotations = {"dragoman.dev/extended-resource": "example.com/gold"}
    gold = {**CLASS, "metadata": {"name": "gold", "annotations": annotations}}
    asks = {"example.com/gold": "1"}
    one = fresh(pod("p", containers=[{"name": "main", "resources": {"requests": asks, "limits": asks}}]))
    world = World(mode="native", classes=[CLASS, gold]).node("n1", card("a", gib=40)).controllers()
    done = dragoman(world, tmp_path, "simulate", "-f", write(tmp_path, one), "-o", "json")
    assert done.document["steps"][0]["outcome"] == "NothingAsked"


def test_an_allocation_in_the_file_itself_is_refused(tmp_path: Path) -> None:
    made = claim("one", memory="1Gi")
    parameters = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareAllocation", "shares": []}
    made["spec"]["devices"]["config"] = [{"opaque": {"driver": "dragoman.dev", "parameters": parameters}}]
    done = dragoman(one_card(), tmp_path, "simulate", "-f", write(tmp_path, fresh(made)))
    assert done.status == 1
    assert "only the allocator writes it" in done.out.replace("\n  ", " ")


def test_a_status_that_the_file_brings_along_counts_for_nothing(tmp_path: Path) -> None:
    made = allocated(claim("one", memory="30Gi"), "n1", "a", memory="1Gi")
    file = write(tmp_path, {**fresh(made), "status": made["status"]})
    found = dragoman(one_card(), tmp_path, "simulate", "-f", file, "-o", "json").document
    assert found["steps"][0]["shares"][0]["memory"] == "30Gi"


def test_without_the_right_to_see_what_is_free_there_is_no_answer(tmp_path: Path) -> None:
    file = write(tmp_path, fresh(claim("one")))
    done = dragoman(one_card(namespace_only="team-a"), tmp_path, "simulate", "-f", file)
    assert (done.status, done.out) == (2, "")
    assert "list resourceclaims.resource.k8s.io in all namespaces" in done.err


@pytest.mark.parametrize("mode", ["native", "controller"])
@pytest.mark.parametrize("example", ALL_EXAMPLES, ids=lambda path: path.stem)
def test_every_example_gets_an_answer_in_both_modes(example: Path, mode: str, tmp_path: Path) -> None:
    world = World(mode=mode)
    for number in range(3):
        world.node(f"n{number}", *(card(f"c{number}{index}", architecture="Ampere") for index in range(4)))
    done = dragoman(world.controllers(), tmp_path, "simulate", "-f", str(example))
    assert (done.status, done.err) == (0, "")


def test_the_world_of_two_nodes_is_left_as_it_was(tmp_path: Path) -> None:
    world = two_nodes()
    before = str(world.claims)
    dragoman(world, tmp_path, "simulate", "-f", str(EXAMPLES / "two-containers.yaml"))
    assert str(world.claims) == before
    assert world.transport is not None
    assert {one.method for one in world.transport.requests} == {"GET"}
