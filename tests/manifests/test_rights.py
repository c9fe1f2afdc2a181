"""Rights in the chart are what the code uses, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import controller
import kubelet_plugin
from tests.manifests.support.helm import only, render
from tests.manifests.support.rights import KINDS, VERBS, Right, granted_to, used_by

pytestmark = pytest.mark.cluster

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
AGENT = Path(kubelet_plugin.__file__).parent


def used() -> set[Right]:
    """The rights that the controller's code needs, but for the command line's."""
    folder = Path(controller.__file__).parent
    return NOT_IN_CALLS | used_by(folder, but_for=lambda path: "cli" in path.parts)


def used_by_agent() -> set[Right]:
    """The rights that the agent's code needs."""
    found = used_by(AGENT)
    # From 1.36 on asked of whoever changes `status.devices`, for the verb of the request.
    status = "resourceclaims/status"
    return found | {
        (group, "resourceclaims/driver", f"associated-node:{verb}")
        for group, name, verb in found
        if name == status
    }


def granted(**values: Any) -> set[Right]:
    """The rights of the controller's account."""
    documents = render({"controller": values})
    return granted_to(_account(only(documents, "Deployment")), documents)


def _account(workload: dict[str, Any]) -> str:
    return str(workload["spec"]["template"]["spec"]["serviceAccountName"])


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


def test_an_agent_may_do_what_it_does_and_nothing_else() -> None:
    documents = render()
    granted = granted_to(_account(only(documents, "DaemonSet", "dragoman-agent")), documents)
    assert sorted(granted) == sorted(used_by_agent())


def test_no_kind_is_used_by_an_agent_where_its_right_would_not_be_seen() -> None:
    # A kind outside of calls that are known would be a right that the test above does not know of: all there
    # is besides is what objects are made of.
    strange = []
    for path in AGENT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        fine = {
            id(argument)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _name(node) in VERBS
            for argument in node.args
        } | {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        strange += [
            f"{path.relative_to(AGENT)}:{node.lineno} {node.id}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id in KINDS and id(node) not in fine
        ]
    assert strange == []


def _name(node: ast.Call) -> str:
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return str(getattr(function, "attr", getattr(function, "id", "")))
