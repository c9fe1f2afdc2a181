"""A node's agent speaks for its own node only: RBAC and admission policies, tried with its own token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from driver.kube.resources import ACCELERATOR_NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from tests.cluster.support import cards
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.handwritten import allocate, result
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, request
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Agent:
    """The API server as the agent of this node sees it, and as its account without a node does."""

    bound: Api
    unbound: Api


@pytest.fixture(scope="module")
def agent(api: Api, installed: Installation) -> Agent:
    pod = installed.agent()
    account = pod["spec"]["serviceAccountName"]
    path = f"/api/v1/namespaces/{installed.namespace}/serviceaccounts/{account}/token"
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }

    def token(spec: JSON) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        found: str = api.request("POST", path, body=body).json()["status"]["token"]
        return found

    return Agent(api.with_token(token({"boundObjectRef": reference})), api.with_token(token({})))


@pytest.fixture(scope="module")
def other_node(api: Api) -> Iterator[str]:
    """The inventory of a node that is not the agent's."""
    name = "somebody-elses-node"
    api.create(ACCELERATOR_NODES, {"metadata": {"name": name}})
    yield name
    api.delete(ACCELERATOR_NODES, name)


def _status(api: Api, node: str) -> JSON:
    body = {"status": {"agent": {"version": "0", "podName": "x"}, "cards": []}}
    path = ACCELERATOR_NODES.path(name=node, subresource="status")
    found: JSON = api.request(
        "PATCH", path, query={"dryRun": "All"}, body=body, content_type="application/merge-patch+json"
    ).json()
    return found


def test_an_agent_writes_the_inventory_of_its_own_node(agent: Agent, installed: Installation) -> None:
    assert _status(agent.bound, installed.node)["metadata"]["name"] == installed.node


def test_an_agent_cannot_write_another_nodes_inventory(agent: Agent, other_node: str) -> None:
    with pytest.raises(Refused) as refused:
        _status(agent.bound, other_node)
    assert refused.value.status in (403, 422)
    assert "own" in refused.value.message


def test_a_token_that_is_bound_to_no_node_cannot_write_any_inventory(
    agent: Agent, installed: Installation
) -> None:
    with pytest.raises(Refused) as refused:
        _status(agent.unbound, installed.node)
    assert refused.value.status in (403, 422)


def test_an_agent_cannot_make_or_remove_another_nodes_inventory(agent: Agent, other_node: str) -> None:
    with pytest.raises(Refused):
        agent.bound.create(ACCELERATOR_NODES, {"metadata": {"name": "a-third-node"}})
    with pytest.raises(Refused):
        agent.bound.delete(ACCELERATOR_NODES, other_node)


def test_an_agent_cannot_write_resource_slices(agent: Agent, installed: Installation) -> None:
    (piece, *_) = installed.slices()
    for node in (installed.node, "somebody-elses-node"):
        spec = {**piece["spec"], "nodeName": node}
        with pytest.raises(Refused) as refused:
            agent.bound.create(RESOURCE_SLICES, {"metadata": {"generateName": "forged-"}, "spec": spec})
        assert refused.value.status == 403
    with pytest.raises(Refused):
        agent.bound.delete(RESOURCE_SLICES, piece["metadata"]["name"])


@pytest.fixture
def given(space: Space, installed: Installation) -> Space:
    """A claim `mine` on this node's card, and `foreign` that another driver and another pool hold."""
    space.create(claim("mine", request()), claim("foreign", request("a"), request("b")))
    pool, device = installed.pool, cards.NVIDIA_24.device
    allocate(space, "mine", [result(pool=pool, device=device)], node=installed.node)
    foreign = [
        result(request="a", driver="gpu.example.com", pool=pool, device=device),
        result(request="b", pool="somebody-elses-node/dragoman", device=device),
    ]
    allocate(space, "foreign", foreign, node=installed.node)
    return space


def _tell(api: Api, space: Space, name: str, *, driver: str, pool: str) -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    entry = {"driver": driver, "pool": pool, "device": cards.NVIDIA_24.device, "conditions": [condition]}
    path = RESOURCE_CLAIMS.path(namespace=space.name, name=name, subresource="status")
    api.request(
        "PATCH",
        path,
        body={"status": {"devices": [entry]}},
        content_type="application/merge-patch+json",
    )


def test_an_agent_tells_in_a_claim_what_it_put_in_force(
    agent: Agent, given: Space, installed: Installation
) -> None:
    _tell(agent.bound, given, "mine", driver="dragoman.dev", pool=installed.pool)
    assert given.claim("mine")["status"]["devices"][0]["conditions"][0]["reason"] == "Test"


@pytest.mark.parametrize(
    ("driver", "pool"),
    [
        pytest.param("gpu.example.com", "{own}", id="another driver's device"),
        pytest.param("dragoman.dev", "somebody-elses-node/dragoman", id="another node's pool"),
    ],
)
def test_an_agent_cannot_speak_for_others_in_a_claim(
    agent: Agent, given: Space, installed: Installation, driver: str, pool: str
) -> None:
    with pytest.raises(Refused) as refused:
        _tell(agent.bound, given, "foreign", driver=driver, pool=pool.format(own=installed.pool))
    assert refused.value.status in (403, 422)
    assert "devices" not in given.claim("foreign")["status"]


@pytest.mark.parametrize("change", ["allocation", "reservedFor"])
def test_an_agent_cannot_allocate_or_reserve(agent: Agent, given: Space, change: str) -> None:
    path = RESOURCE_CLAIMS.path(namespace=given.name, name="mine", subresource="status")
    consumer = {"resource": "pods", "name": "x", "uid": "11111111-1111-4111-8111-111111111111"}
    value = None if change == "allocation" else [consumer]
    with pytest.raises(Refused) as refused:
        agent.bound.request(
            "PATCH", path, body={"status": {change: value}}, content_type="application/merge-patch+json"
        )
    assert refused.value.status in (403, 422)


def test_an_agent_cannot_change_what_a_claim_asks_or_delete_it(agent: Agent, given: Space) -> None:
    with pytest.raises(Refused):
        agent.bound.patch(RESOURCE_CLAIMS, "mine", {"metadata": {"labels": {"a": "b"}}}, namespace=given.name)
    with pytest.raises(Refused):
        agent.bound.delete(RESOURCE_CLAIMS, "mine", namespace=given.name)


@pytest.mark.parametrize("verb", ["get", "list"])
def test_an_agent_cannot_read_secrets(agent: Agent, verb: str) -> None:
    path = "/api/v1/secrets" if verb == "list" else "/api/v1/namespaces/default/secrets/any"
    with pytest.raises(Refused) as refused:
        agent.bound.request("GET", path)
    assert refused.value.status == 403


def test_no_container_of_ours_is_privileged(api: Api, installed: Installation) -> None:
    for one in api.list(PODS, namespace=installed.namespace):
        for container in one["spec"]["containers"] + one["spec"].get("initContainers", []):
            context = container.get("securityContext") or {}
            assert not context.get("privileged"), one["metadata"]["name"]
            assert context.get("allowPrivilegeEscalation") is False, one["metadata"]["name"]
            assert context.get("readOnlyRootFilesystem") is True, one["metadata"]["name"]
