"""The controller's rights in the chart are what its code uses, no more and no less."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import controller
from driver.kube import resources
from driver.kube.resources import Resource
from tests.manifests.support.helm import render

pytestmark = pytest.mark.cluster

Right = tuple[str, str, str]
"""Group, resource with subresource, verb."""

VERBS = {
    "get": ("get",),
    "_get": ("get",),
    "list_page": ("list",),
    "pages": ("list",),
    "create": ("create",),
    "replace": ("update",),
    "patch": ("patch",),
    "apply": ("patch",),
    "delete": ("delete",),
    "Informer": ("list", "watch"),
}
"""What the functions that take a kind need."""
KINDS = {name: one for name, one in vars(resources).items() if isinstance(one, Resource)}
REGISTRATION = "admissionregistration.k8s.io"
NOT_IN_CALLS: set[Right] = {
    # The kind is an argument of the keeper's function.
    (REGISTRATION, "mutatingwebhookconfigurations", "get"),
    (REGISTRATION, "mutatingwebhookconfigurations", "patch"),
    (REGISTRATION, "validatingwebhookconfigurations", "get"),
    (REGISTRATION, "validatingwebhookconfigurations", "patch"),
    # Asked by API servers of whoever changes `status.allocation`.
    ("resource.k8s.io", "resourceclaims/binding", "update"),
}


def used() -> set[Right]:
    """The rights that calls in the controller's code need, but for the command line's."""
    folder = Path(controller.__file__).parent
    found = set(NOT_IN_CALLS)
    for path in folder.rglob("*.py"):
        if "cli" not in path.relative_to(folder).parts:
            for node in ast.walk(ast.parse(path.read_text())):
                found.update(_needed(node))
    return found


def _needed(node: ast.AST) -> Iterator[Right]:
    if not isinstance(node, ast.Call):
        return
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    kinds = [KINDS[one.id] for one in node.args if isinstance(one, ast.Name) and one.id in KINDS]
    below = [one.value for one in node.keywords if one.arg == "subresource"]
    for kind in kinds:
        for verb in VERBS.get(name, ()):
            names = [kind.plural, *(str(one.value) for one in below if isinstance(one, ast.Constant))]
            yield kind.group, "/".join(names), verb


def granted(**values: Any) -> set[Right]:
    """The rights of the controller's account."""
    documents = render({"controller": values})
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    bound = {
        one["roleRef"]["name"]
        for one in documents
        if one["kind"].endswith("RoleBinding") and account in [subject["name"] for subject in one["subjects"]]
    }
    return {
        (group, resource, verb)
        for one in documents
        if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] in bound
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_where_everything_is_on_the_controller_may_do_what_it_does_and_nothing_else() -> None:
    assert sorted(granted(mode="controller", conversion={"install": True})) == sorted(used())


def test_without_admission_and_in_mode_native_it_may_do_less() -> None:
    less = granted(mode="native", webhook={"install": False})
    assert less < granted(mode="native") < granted(mode="controller")
    written = {(resource, verb) for _, resource, verb in less if verb not in ("get", "list", "watch")}
    assert {resource for resource, _ in written} == {
        "resourceslices",
        "resourceclaims",
        "acceleratornodes/status",
        "acceleratorpolicies/status",
        "events",
        "leases",
    }
    # A dry run; nothing else of a claim is written.
    assert [verb for resource, verb in written if resource == "resourceclaims"] == ["create"]
    assert ("", "pods", "get") not in less
