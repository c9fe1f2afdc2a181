"""While no webhook answers: what goes on as ever, what is refused, and what comes by itself afterwards.

One cluster of its own for this file, in order: away, back, without its certificates, standing still, and with
a certificate that has expired.
"""

from __future__ import annotations

import signal
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from controller.admission.certificates import CERTIFICATE_DAYS, Bundle, renewed
from driver.kube.resources import (
    DEVICE_CLASSES,
    MUTATING_WEBHOOKS,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    SECRETS,
    VALIDATING_WEBHOOKS,
)
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DEPLOYMENTS, JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, template
from tests.cluster.support.own_cluster import own_cluster
from tests.cluster.support.space import Space, open_space
from tests.cluster.test_conversion import SHARE, legacy
from tooling.cluster.errors import ClusterError

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

CONTROLLER = "dragoman-controller"
OTHERS = "nic.example.com"
GIVEN = "given-certificate"


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in a cluster of its own."""
    with own_cluster(images, purpose="webhook", version=kubernetes_version) as installed:
        yield installed


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

    waiting.wait_for(own.api, DEPLOYMENTS, CONTROLLER, done, what="is scaled", namespace=own.namespace)


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
    for one, kind in (
        (claim("system", request(memory="1Gi")), RESOURCE_CLAIMS),
        (template("system", request(memory="1Gi")), RESOURCE_CLAIM_TEMPLATES),
    ):
        away.api.create(kind, one, namespace="kube-system", dry_run=True)


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
    place.running("from-template")
    (found,) = waiting.wait_all(
        place.api,
        PODS,
        lambda pods: [one for one in pods if waiting.running(one)] or None,
        what="the Deployment's pod runs",
        namespace=place.name,
        # ReplicaSets try again ever more rarely: the longer nobody answered, the longer it takes.
        seconds=2 * waiting.PATIENCE_S,
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

    waiting.eventually(renewed, what="there are new certificates")
    # Until every replica serves the new one, and the API server trusts it.
    _answers(place)


@contextmanager
def _frozen(own: Installation) -> Iterator[None]:
    """The controllers stand still: connections are taken, and nothing is ever answered."""
    pids = [
        pid
        for one in own.controllers()
        for pid in own.target.node.container_pids(pod_uid=one["metadata"]["uid"], container="controller")
    ]
    assert pids
    for pid in pids:
        own.target.node.signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            # Whoever is found dead by its kubelet is started anew.
            with suppress(ClusterError):
                own.target.node.signal(pid, signal.SIGCONT)


def test_a_webhook_that_never_answers_is_not_waited_for_beyond_its_time(
    own: Installation, place: Space
) -> None:
    with _frozen(own):
        place.create(pod("meanwhile"))
        with pytest.raises(Refused) as refused:
            place.create(legacy("slow", SHARE))
        assert "pods.dragoman.dev" in refused.value.message
        assert "deadline exceeded" in refused.value.message
        place.create(claim("others-meanwhile", request(of=OTHERS)))
    place.running("meanwhile")
    _answers(place)


def test_pods_of_ours_are_refused_by_the_reason_while_a_certificate_that_was_provided_has_expired(
    own: Installation, place: Space
) -> None:
    names = (f"dragoman-webhook.{own.namespace}.svc",)
    expired = renewed(None, names=names, now=datetime.now(UTC) - timedelta(days=CERTIFICATE_DAYS + 10))
    _provide(own, expired)
    own.controller = {"webhook": {"certificates": "provided", "secret": GIVEN}}
    own.install()
    _trusted(own, expired)

    def refused() -> str:
        try:
            place.api.create(PODS, legacy("expired", SHARE), namespace=place.name, dry_run=True)
        except Refused as told:
            return told.message if "expired" in told.message else ""
        return ""

    said = waiting.eventually(refused, what="the certificate is found to have expired")
    assert "pods.dragoman.dev" in said
    place.create(pod("beside"))
    place.running("beside")
    # Whoever provides certificates puts a new one there; nothing has to be restarted.
    fresh = renewed(expired, names=names, now=datetime.now(UTC))
    _provide(own, fresh)
    _trusted(own, fresh)
    _answers(place)


def _provide(own: Installation, bundle: Bundle) -> None:
    data = {"tls.crt": bundle.certificate, "tls.key": bundle.key, "ca.crt": bundle.authorities}
    encoded = {name: b64encode(content).decode() for name, content in data.items()}
    body = {"type": "kubernetes.io/tls", "metadata": {"name": GIVEN}, "data": encoded}
    if own.api.find(SECRETS, GIVEN, namespace=own.namespace):
        own.api.patch(SECRETS, GIVEN, {"data": encoded}, namespace=own.namespace)
    else:
        own.api.create(SECRETS, body, namespace=own.namespace)


def _trusted(own: Installation, bundle: Bundle) -> None:
    """What cert-manager's injector does."""
    authority = b64encode(bundle.authorities).decode()
    for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        found = own.api.get(kind, "dragoman-webhook")
        hooks = [
            {**one, "clientConfig": {**one["clientConfig"], "caBundle": authority}}
            for one in found["webhooks"]
        ]
        own.api.patch(kind, "dragoman-webhook", {"webhooks": hooks})


def _answers(place: Space) -> None:
    def answered() -> bool | None:
        try:
            made = place.api.create(PODS, legacy("dry", SHARE), namespace=place.name, dry_run=True)
        except Refused:
            return None
        return bool(made["spec"].get("resourceClaims"))

    # A kubelet brings a Secret into a pod a minute later, or two.
    waiting.eventually(answered, what="webhooks answer", seconds=2 * waiting.PATIENCE_S)
