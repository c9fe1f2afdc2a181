"""A claim whose cards a pod uses stays, whoever may update claims; and goes as ever when the pod is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import NAMESPACES, Api, Refused
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space, open_space

pytestmark = pytest.mark.cluster

FINALIZER = "resource.kubernetes.io/delete-protection"
UNGUARDED = "test.dragoman.dev/unguarded"
_BINDINGS = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="validatingadmissionpolicybindings",
    kind="ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
_ROLE_BINDINGS = Resource(
    group="rbac.authorization.k8s.io",
    version="v1",
    plural="rolebindings",
    kind="RoleBinding",
    namespaced=True,
)


@pytest.fixture
def tenant(space: Space) -> Api:
    """Somebody with Kubernetes' role `edit` in the namespace."""
    body = {
        "metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}],
    }
    space.api.create(_ROLE_BINDINGS, body, namespace=space.name)
    somebody = space.api.impersonating("tenant")
    waiting.eventually(lambda: _may_list(somebody, space), what="the tenant may see claims")
    return somebody


def _may_list(somebody: Api, space: Space) -> bool:
    try:
        somebody.list(RESOURCE_CLAIMS, namespace=space.name)
    except Refused:
        return False
    return True


def test_a_tenant_cannot_take_the_finalizer_off_a_claim_whose_cards_a_pod_uses(
    space: Space, tenant: Api
) -> None:
    space.create(*sharing("p", request(memory="1Gi")))
    space.running("p")
    name = space.claim_of("p")["metadata"]["name"]

    with pytest.raises(Refused) as refused:
        tenant.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": None}}, namespace=space.name)

    assert refused.value.status == 403
    assert "in-use.dragoman.dev" in refused.value.message
    assert "Delete the pods; Kubernetes then takes it off." in refused.value.message
    tenant.delete(RESOURCE_CLAIMS, name, namespace=space.name)
    with pytest.raises(Refused):
        tenant.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": None}}, namespace=space.name)
    stored = space.claim(name)
    assert FINALIZER in stored["metadata"]["finalizers"]
    assert stored["status"]["allocation"]

    tenant.delete(PODS, "p", namespace=space.name, grace_s=0)
    waiting.wait_gone(space.api, RESOURCE_CLAIMS, name, namespace=space.name)


def test_other_changes_of_a_claim_in_use_are_nobodys_business(space: Space, tenant: Api) -> None:
    space.create(*sharing("p", request(memory="1Gi")))
    space.running("p")
    name = space.claim_of("p")["metadata"]["name"]

    change = {"metadata": {"labels": {"a": "b"}, "finalizers": [FINALIZER, "example.com/more"]}}
    tenant.patch(RESOURCE_CLAIMS, name, change, namespace=space.name)
    tenant.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": [FINALIZER]}}, namespace=space.name)

    assert space.claim(name)["metadata"]["labels"] == {"a": "b"}


def test_an_administrator_can_take_the_finalizer_off_since_it_could_take_the_allocation_too(
    space: Space,
) -> None:
    space.create(*sharing("p", request(memory="1Gi")))
    space.running("p")
    name = space.claim_of("p")["metadata"]["name"]

    space.api.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": None}}, namespace=space.name)

    assert not space.claim(name)["metadata"].get("finalizers")
    change = {"metadata": {"finalizers": [FINALIZER]}}
    space.api.patch(RESOURCE_CLAIMS, name, change, namespace=space.name)


def test_a_namespace_goes_with_the_claims_that_its_pods_use(space: Space) -> None:
    gone = open_space(space.api, "gone")
    gone.create(*sharing("p", request(memory="1Gi")))
    gone.running("p")

    space.api.delete(NAMESPACES, gone.name)

    waiting.wait_gone(space.api, NAMESPACES, gone.name)


@pytest.fixture
def unguarded(space: Space) -> Iterator[Space]:
    """A namespace that the policy leaves out, as where nobody installed it."""
    left_out = {"matchExpressions": [{"key": UNGUARDED, "operator": "DoesNotExist"}]}
    space.set_labels({UNGUARDED: "true"})
    _select(space, {"namespaceSelector": left_out})
    yield space
    _select(space, None)


def _select(space: Space, resources: object) -> None:
    space.api.patch(_BINDINGS, "in-use.dragoman.dev", {"spec": {"matchResources": resources}})


def test_without_the_policy_the_node_refuses_whoever_is_given_a_card_that_a_pod_runs_with(
    unguarded: Space, tenant: Api
) -> None:
    space, card = unguarded, cards.NVIDIA_24
    whole = request(cel=cards.on(card))
    space.create(*sharing("p", whole))
    space.running("p")
    name = space.claim_of("p")["metadata"]["name"]
    tenant.delete(RESOURCE_CLAIMS, name, namespace=space.name)
    waiting.eventually(lambda: _takes_it_off(tenant, name, space), what="nobody guards the finalizer")
    waiting.wait_gone(space.api, RESOURCE_CLAIMS, name, namespace=space.name)

    space.create(*sharing("q", whole))

    # kube-scheduler knows nothing of the claim any more; the node does.
    space.event("q", card.device, "others are on it", reason="FailedPrepareDynamicResources")
    space.running("p")
    space.delete("p")
    space.touch("q")
    space.running("q")


def _takes_it_off(tenant: Api, name: str, space: Space) -> bool:
    try:
        tenant.patch(RESOURCE_CLAIMS, name, {"metadata": {"finalizers": None}}, namespace=space.name)
    except Refused as refused:
        return refused.status == 404
    return True
