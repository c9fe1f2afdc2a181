"""What the commands ask the API server, held against what the chart's role for readers allows.

The roles are those of the rendered chart (tests/manifests/golden); of Kubernetes' own role `view`, what is
listed here is what the commands use of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml

from driver.kube.client import JSON
from tests.controller.cli.cases import two_nodes, waiting
from tests.controller.cli.test_rights import forbidden
from tests.controller.cli.world import World, allocated, claim, dragoman, pod
from tests.support.scripted_api import Request

CHART = Path(__file__).parents[2] / "manifests" / "golden" / "defaults.yaml"
Right = tuple[str, str, str]
VIEW: set[Right] = {
    ("", "pods", "get"),
    ("", "events", "list"),
    ("resource.k8s.io", "resourceclaims", "get"),
    ("resource.k8s.io", "resourceclaims", "list"),
    ("resource.k8s.io", "resourceclaimtemplates", "get"),
}
"""In a namespace. Its claims and templates are in it where the API server serves them."""
AGENTS: set[Right] = {("", "pods", "list")}
"""The last line of docs/reference/cli.md's table: whether agents are there."""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: new}
spec:
  resourceClaims:
    - {name: one, resourceClaimName: want}
    - {name: two, resourceClaimTemplateName: there}
  containers: [{name: main}]
"""


@cache
def role(name: str) -> set[Right]:
    documents = yaml.safe_load_all(CHART.read_text(encoding="utf-8"))
    (found,) = [one for one in documents if one["kind"] == "ClusterRole" and one["metadata"]["name"] == name]
    return {
        (group, resource, verb)
        for rule in found["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def right_of(request: Request) -> tuple[str, Right] | None:
    """The namespace and the right that a request needs; None for what everybody may read."""
    if request.path == "/version":
        return None
    assert request.method == "GET"
    parts = request.path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    return namespace, (group, rest[0], "get" if len(rest) > 1 else "list")


def world_of(mode: str) -> World:
    world = waiting(two_nodes(mode), claim("want", memory="24Gi")).controllers()
    world.pods.append(pod("runs", "given", node="n1", phase="Running"))
    world.claims.append(allocated(claim("given", memory="1Gi"), "n1", "nvidia-a", memory="1Gi"))
    inner: JSON = claim("any", memory="1Gi")["spec"]
    world.templates.append({"metadata": {"name": "there", "namespace": "team-a"}, "spec": {"spec": inner}})
    return world


def asked(mode: str, command: tuple[str, ...], folder: Path) -> set[tuple[str, Right]]:
    """Namespaces and rights of all requests of a command, by whoever may do all of it."""
    (folder / "pod.yaml").write_text(POD, encoding="utf-8")
    arguments = [str(folder / one) if one == "pod.yaml" else one for one in command]
    world = world_of(mode)
    assert dragoman(world, folder, *arguments).status in (0, 1)
    assert world.transport is not None
    return {found for one in world.transport.requests if (found := right_of(one)) is not None}


COMMANDS = [
    ("status",),
    ("explain", "pod/train"),
    ("explain", "pod/runs"),
    ("explain", "claim/want"),
    ("simulate", "-f", "pod.yaml"),
]


@pytest.mark.parametrize("mode", ["native", "controller"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_who_may_view_his_namespace_and_list_pods_may_do_all_that_a_command_does(
    command: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    cluster_wide = role("dragoman-reader") | AGENTS
    lacking = {
        (namespace, right)
        for namespace, right in asked(mode, command, tmp_path)
        if right not in cluster_wide and not (namespace == "team-a" and right in VIEW)
    }
    assert lacking == set()


CARDS = {
    ("dragoman.dev", "acceleratornodes", "list"),
    ("resource.k8s.io", "resourceslices", "list"),
    ("resource.k8s.io", "resourceclaims", "list"),
}
POLICIES = {("dragoman.dev", "acceleratorpolicies", "list")}
FITTING = {("resource.k8s.io", "deviceclasses", "list"), ("", "nodes", "list")}


@pytest.mark.parametrize("mode", ["native", "controller"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_asks_for_what_the_page_about_the_command_line_says_and_no_more(
    command: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    found = {right for namespace, right in asked(mode, command, tmp_path) if not namespace}
    assert found == CARDS | AGENTS | (POLICIES if command == ("status",) else FITTING)


def test_the_role_allows_no_reading_that_no_command_does(tmp_path: Path) -> None:
    used = {
        right
        for mode in ("native", "controller")
        for command in COMMANDS
        for _, right in asked(mode, command, tmp_path)
    }
    # Who may list something may as well look at one of it, and wait for a change.
    listed = {(group, resource) for group, resource, _ in role("dragoman-reader")}
    assert listed <= {(group, resource) for group, resource, _ in used}


@pytest.mark.parametrize("mode", ["native", "controller"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_the_right_to_list_pods_everywhere_a_reader_is_answered_all_the_same(
    command: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    (tmp_path / "pod.yaml").write_text(POD, encoding="utf-8")
    arguments = [str(tmp_path / one) if one == "pod.yaml" else one for one in command]
    world = world_of(mode)
    answer = world.answer

    def as_reader(request: Request) -> object:
        found = right_of(request)
        if found is not None:
            namespace, right = found
            if right not in role("dragoman-reader") and not (namespace == "team-a" and right in VIEW):
                return forbidden(request)
        return answer(request)

    world.answer = as_reader  # type: ignore[assignment, method-assign]
    done = dragoman(world, tmp_path, *arguments)
    assert (done.status in (0, 1), done.err) == (True, "")
