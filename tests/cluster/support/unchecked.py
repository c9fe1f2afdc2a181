"""Namespaces whose objects are stored without being looked at, as while no webhook answers.

Flow: the validating webhooks leave out namespaces with a label for as long as `unchecked` lasts.

Limits: quotas are not held there either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from driver.kube.resources import VALIDATING_WEBHOOKS
from tests.cluster.support import waiting
from tests.cluster.support.api import TEMPLATES, Api, Refused
from tests.cluster.support.manifests import request, share_config, template
from tests.cluster.support.space import Space

LABEL = "test.dragoman.dev/unchecked"


@contextlib.contextmanager
def unchecked(space: Space) -> Iterator[Space]:
    """A namespace of which the validating webhooks are not asked meanwhile."""
    space.set_labels({LABEL: "true"})
    _leave_out(space.api, left_out=True)
    try:
        waiting.eventually(lambda: _is_unchecked(space), what="nobody is asked")
        yield space
    finally:
        _leave_out(space.api, left_out=False)


def _leave_out(api: Api, *, left_out: bool) -> None:
    for found in api.list(VALIDATING_WEBHOOKS):
        if "settings.dragoman.dev" not in [one["name"] for one in found["webhooks"]]:
            continue
        for one in found["webhooks"]:
            terms = one.setdefault("namespaceSelector", {}).setdefault("matchExpressions", [])
            terms[:] = [term for term in terms if term["key"] != LABEL]
            if left_out:
                terms.append({"key": LABEL, "operator": "DoesNotExist"})
        api.patch(VALIDATING_WEBHOOKS, found["metadata"]["name"], {"webhooks": found["webhooks"]})


def _is_unchecked(space: Space) -> bool:
    wrong = template("wrong", request(), config=[share_config({"kind": "Nonsense"})])
    try:
        space.api.create(TEMPLATES, wrong, namespace=space.name, dry_run=True)
    except Refused:
        return False
    return True
