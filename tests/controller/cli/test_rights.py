"""Rights that are taken away while a command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.kube.client import JSON, ApiError, error_for
from tests.controller.cli.cases import NOTE, two_nodes, waiting
from tests.controller.cli.world import World, claim, dragoman, pod
from tests.support.scripted_api import Request

NAMESPACE = "/namespaces/team-a/"
NEEDED = {
    "/version": "get /version",
    "/apis/dragoman.dev/v1alpha1/acceleratornodes": "list acceleratornodes.dragoman.dev",
    "/apis/resource.k8s.io/v1/resourceslices": "list resourceslices.resource.k8s.io",
    "/apis/resource.k8s.io/v1/resourceclaims": "list resourceclaims.resource.k8s.io in all namespaces",
    "/apis/resource.k8s.io/v1/deviceclasses": "list deviceclasses.resource.k8s.io",
}
FILE = """
apiVersion: v1
kind: Pod
metadata: {name: train}
spec:
  resourceClaims: [{name: card, resourceClaimName: elsewhere}]
  containers: [{name: main}]
"""


def forbidden(request: Request) -> ApiError:
    return error_for(403, message=f"GET {request.path}: forbidden (403)", kube_reason="Forbidden")


def losing(world: World, *, after: int) -> World:
    """The same, with the rights outside the namespace taken away after so many requests for it."""
    answer, asked = world.answer, 0

    def until_then(request: Request) -> JSON | ApiError:
        nonlocal asked
        asked += NAMESPACE not in request.path
        return forbidden(request) if NAMESPACE not in request.path and asked > after else answer(request)

    world.answer = until_then  # type: ignore[method-assign]
    return world


def without(world: World, *paths: str) -> World:
    """The same without the right to read some paths."""
    answer = world.answer

    def but(request: Request) -> JSON | ApiError:
        return forbidden(request) if request.path in paths else answer(request)

    world.answer = but  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize("after", range(len(NEEDED)))
@pytest.mark.parametrize("mode", ["native", "controller"])
def test_explain_goes_on_without_rights_that_are_taken_away_while_it_reads(
    mode: str, after: int, tmp_path: Path
) -> None:
    world = losing(waiting(two_nodes(mode), claim("want", memory="24Gi")), after=after)
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert (done.status, done.err) == (0, "")
    assert NOTE in done.out
    assert "For an answer of its own this command needs the right to" in done.out


@pytest.mark.parametrize("path", NEEDED)
def test_explain_names_the_one_right_that_is_missing(path: str, tmp_path: Path) -> None:
    world = without(waiting(two_nodes(), claim("want", memory="24Gi")), path)
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert (found["computed"], found["neededRights"]) == (False, [NEEDED[path]])


def test_a_list_that_is_refused_after_its_first_page_is_one_that_may_not_be_read(tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="24Gi"))
    answer, path = world.answer, "/apis/resource.k8s.io/v1/resourceclaims"

    def paged(request: Request) -> JSON | ApiError:
        if request.path == path:
            more = "continue" in request.query
            return forbidden(request) if more else {"metadata": {"continue": "x"}, "items": []}
        return answer(request)

    world.answer = paged  # type: ignore[method-assign]
    found = dragoman(world, tmp_path, "explain", "pod/train", "-o", "json").document
    assert (found["computed"], found["neededRights"]) == (False, [NEEDED[path]])


def test_a_pod_whose_right_was_taken_away_is_told_by_the_right(tmp_path: Path) -> None:
    world = without(two_nodes(), "/api/v1/namespaces/team-a/pods/train")
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert (done.status, done.out) == (2, "")
    assert "train cannot be read: you lack the right to get pods in namespace team-a (" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("path", NEEDED)
def test_simulate_says_in_one_sentence_which_right_it_lacks(path: str, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(FILE)
    done = dragoman(without(two_nodes(), path), tmp_path, "simulate", "-f", str(file))
    assert (done.status, done.out) == (2, "")
    assert f"you lack the right to {NEEDED[path]}." in done.err
    assert done.err.count("\n") == 1


def test_simulate_says_which_right_to_a_claim_that_the_file_names_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(FILE)
    world = without(two_nodes(), "/apis/resource.k8s.io/v1/namespaces/team-a/resourceclaims/elsewhere")
    done = dragoman(world, tmp_path, "simulate", "-f", str(file))
    assert (done.status, done.out) == (2, "")
    assert "elsewhere cannot be read: you lack the right to get resourceclaims.resource.k8s.io in" in done.err


@pytest.mark.parametrize("path", [path for path in NEEDED if not path.endswith(("version", "classes"))])
def test_status_never_takes_what_may_not_be_read_for_nothing(path: str, tmp_path: Path) -> None:
    done = dragoman(without(two_nodes(), path), tmp_path, "status")
    assert (done.status, done.out) == (2, "")
    assert f"you lack the right to {NEEDED[path]}." in done.err
    assert done.err.count("\n") == 1


def test_status_does_without_the_version(tmp_path: Path) -> None:
    done = dragoman(without(two_nodes(), "/version"), tmp_path, "status")
    assert done.status == 0
    assert "Kubernetes   not known.\n" in done.out
    assert "You lack the right to get /version." in done.out


def test_a_pod_without_claims_is_explained_whatever_was_taken_away(tmp_path: Path) -> None:
    world = losing(two_nodes(), after=1)
    world.pods.append(pod("plain"))
    done = dragoman(world, tmp_path, "explain", "pod/plain")
    assert (done.status, done.err) == (0, "")
    assert "names no ResourceClaims" in done.out
