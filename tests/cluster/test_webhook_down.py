"""While no webhook answers: what goes on as ever, what is refused, and what comes by itself afterwards.

One cluster of its own for this file, in order: away, back, and without its certificates.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import DEVICE_CLASSES, PODS, SECRETS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DEPLOYMENTS, JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, template
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.target import of_cluster
from tests.cluster.test_conversion import SHARE, legacy
from tooling.cluster import api as clusters

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

CONTROLLER = "dragoman-controller"
OTHERS = "nic.example.com"


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in a cluster of its own."""
    name = clusters.unique_name("webhook")
    try:
        target = of_cluster(clusters.start(name=name, kubernetes=kubernetes_version))
        images.load(target)
        installed = Installation(target, images=images)
        installed.install()
        installed.wait_ready()
        yield installed
    finally:
        clusters.stop(name)


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    """One namespace for all tests of this file."""
    return open_space(own.target.api, "webhook")


def _scale(own: Installation, replicas: int) -> None:
    own.api.patch(DEPLOYMENTS, CONTROLLER, {"spec": {"replicas": replicas}}, namespace=own.namespace)

    def done(one: JSON) -> bool:
        status = one["status"]
        return bool(
            status.get("observedGeneration") == one["metadata"]["generation"]
            and status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas
        )

    waiting.wait_for(
        own.api, DEPLOYMENTS, CONTROLLER, done, what="is scaled", namespace=own.namespace, seconds=90
    )


@pytest.fixture(scope="module")
def away(own: Installation) -> Installation:
    """The same without any controller."""
    _scale(own, 0)
    waiting.wait_all(
        own.api,
        PODS,
        lambda found: not found,
        what="the controllers are gone",
        namespace=own.namespace,
        seconds=60,
        labelSelector="app.kubernetes.io/component=controller",
    )
    return own


def test_pods_that_are_none_of_ours_are_made_as_ever(away: Installation, place: Space) -> None:
    place.create(pod("plain"))
    place.running("plain")
    place.delete("plain")


def test_a_pod_of_before_is_refused_by_the_name_of_the_webhook(away: Installation, place: Space) -> None:
    with pytest.raises(Refused) as refused:
        place.create(legacy("before", SHARE))
    assert "pods.dragoman.dev" in refused.value.message


def test_the_system_is_never_locked_out(away: Installation) -> None:
    made = away.api.create(PODS, legacy("system", SHARE), namespace="kube-system", dry_run=True)
    assert "resourceClaims" not in made["spec"]


def test_claims_of_ours_wait_for_quotas_and_those_of_others_do_not(away: Installation, place: Space) -> None:
    with pytest.raises(Refused) as refused:
        place.create(claim("ours", request(memory="1Gi")))
    assert "quotas.dragoman.dev" in refused.value.message
    place.create(
        {
            "kind": DEVICE_CLASSES.kind,
            "metadata": {"name": OTHERS},
            "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{OTHERS}"'}}]},
        },
        claim("others", request(of=OTHERS)),
        template("stored", request(memory="1Gi")),
    )


def test_what_others_make_comes_by_itself_once_a_webhook_answers(away: Installation, place: Space) -> None:
    spec = legacy("unused", SHARE, annotations={"nvidia.com/use-gpuuuid": cards.NVIDIA_40.uuid})
    metadata = {"labels": {"app": "late"}, "annotations": spec["metadata"]["annotations"]}
    late = {
        "metadata": {"name": "late"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "late"}},
            "template": {"metadata": metadata, "spec": spec["spec"]},
        },
    }
    place.api.create(DEPLOYMENTS, late, namespace=place.name)
    place.create(pod("from-template", templates={"card": "stored"}))
    _scale(away, 2)
    place.running("from-template", seconds=120)
    (found,) = waiting.wait_all(
        place.api,
        PODS,
        lambda pods: [one for one in pods if waiting.running(one)] or None,
        what="the Deployment's pod runs",
        namespace=place.name,
        # ReplicaSets try again ever more rarely.
        seconds=180,
        labelSelector="app=late",
    )
    limits = place.seen(found["metadata"]["name"]).limits
    assert [(one.memory_mib, one.cores) for one in limits] == [(4000, 30)]


def test_certificates_that_are_lost_are_made_anew_and_trusted(own: Installation, place: Space) -> None:
    before = own.api.get(SECRETS, "dragoman-webhook", namespace=own.namespace)["data"]["ca.crt"]
    own.api.delete(SECRETS, "dragoman-webhook", namespace=own.namespace)

    def renewed() -> str | None:
        found = own.api.find(SECRETS, "dragoman-webhook", namespace=own.namespace)
        text = str((found or {}).get("data", {}).get("ca.crt", ""))
        return text if text and text != before else None

    waiting.eventually(renewed, what="there are new certificates", seconds=90)

    def answered() -> bool | None:
        try:
            made = place.api.create(PODS, legacy("dry", SHARE), namespace=place.name, dry_run=True)
        except Refused:
            # Until every replica serves the new one, and the API server trusts it.
            return None
        return bool(made["spec"]["resourceClaims"])

    waiting.eventually(answered, what="webhooks answer", seconds=120)
