"""What a process' code needs of the API server, and what the chart grants its account.

Flow: `used_by` reads calls from the source, by the kinds that stand in them; `granted_to` reads the roles
that are bound to the account of a rendered workload.

Limits: a kind that is an argument of a function of ours is not seen where that function calls the client; who
uses this says so.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from driver.kube import resources
from driver.kube.resources import Resource

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


def used_by(folder: Path, *, but_for: Callable[[Path], bool] = lambda _path: False) -> set[Right]:
    """The rights that calls in a package's code need.

    Args:
        folder: The package's.
        but_for: Which of its files, below the folder, do not count.
    """
    found: set[Right] = set()
    for path in folder.rglob("*.py"):
        if not but_for(path.relative_to(folder)):
            for node in ast.walk(ast.parse(path.read_text())):
                found.update(_needed(node))
    return found


def granted_to(account: str, documents: Sequence[dict[str, Any]]) -> set[Right]:
    """The rights of an account in a rendered chart."""
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
