"""The chart against a real API server: what people read, and what is there then."""

from __future__ import annotations

import json

import pytest
import yaml

from driver.kube.resources import DEVICE_CLASSES
from tests.cluster.support.api import CRDS, Api, Refused
from tests.cluster.support.installation import CHART, Installation
from tests.cluster.support.target import Target

pytestmark = pytest.mark.cluster


def _dry_install(target: Target, *arguments: str) -> str:
    """``helm install`` against the server, which writes nothing; what was said when it failed."""
    done = target.run(
        "helm", "install", "second", str(CHART), "--namespace", "default", "--dry-run=server", *arguments
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_without_an_image_the_installation_fails_with_the_sentence_that_tells_how_to_get_one(
    target: Target, installed: Installation
) -> None:
    said = _dry_install(target)
    assert "image.repository is not set" in said
    assert "hack/image --push" in said


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        pytest.param("controller.replcias=2", "replcias", id="a misspelt value"),
        pytest.param("agent.discoveryInterval=often", "discoveryInterval", id="a text for a number"),
        pytest.param("host.kubeletRoot=var/lib/kubelet", "kubeletRoot", id="a path that is not absolute"),
    ],
)
def test_values_that_are_wrong_are_refused_by_their_name(
    target: Target, installed: Installation, setting: str, named: str
) -> None:
    assert named in _dry_install(target, "--set", "image.repository=x", "--set", setting)


def test_there_is_a_device_class_for_any_card_and_one_for_nvidia(api: Api, installed: Installation) -> None:
    ours = {
        one["metadata"]["name"] for one in api.list(DEVICE_CLASSES, labelSelector="dragoman.dev/driver=true")
    }
    assert {"accelerator.dragoman.dev", "nvidia.dragoman.dev"} <= ours


def test_the_kinds_stay_when_the_chart_goes(api: Api, installed: Installation) -> None:
    for plural in ("acceleratornodes", "acceleratorpolicies"):
        crd = api.get(CRDS, f"{plural}.dragoman.dev")
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert crd["metadata"]["annotations"]["meta.helm.sh/release-name"] == "dragoman"


def test_what_the_server_stored_of_the_chart_is_what_was_rendered(
    target: Target, installed: Installation
) -> None:
    """A field that the API server does not know would be dropped without a word."""
    manifest = target.must("helm", "get", "manifest", "dragoman", "--namespace", installed.namespace)
    for document in yaml.safe_load_all(manifest):
        if document is None:
            continue
        meta = document["metadata"]
        place = ["--namespace", meta["namespace"]] if "namespace" in meta else []
        text = target.must("kubectl", "get", document["kind"], meta["name"], *place, "--output", "json")
        missing = sorted(_missing(document, json.loads(text), path=""))
        assert not missing, f"{document['kind']} {meta['name']}: {missing}"


def _missing(rendered: object, stored: object, *, path: str) -> list[str]:
    """Paths that were rendered and are not stored; values that the server writes otherwise are the same."""
    if isinstance(rendered, dict):
        if not isinstance(stored, dict):
            return [path]
        return [
            found
            for key, value in rendered.items()
            if value not in (None, "", [], {})
            for found in (
                _missing(value, stored[key], path=f"{path}.{key}") if key in stored else [f"{path}.{key}"]
            )
        ]
    if isinstance(rendered, list):
        if not isinstance(stored, list) or len(stored) < len(rendered):
            return [path]
        return [
            found
            for index, value in enumerate(rendered)
            for found in _missing(value, stored[index], path=f"{path}[{index}]")
        ]
    return []


def test_a_person_without_rights_cannot_write_policies(api: Api, installed: Installation) -> None:
    somebody = api.impersonating("somebody", groups=("system:authenticated",))
    with pytest.raises(Refused) as refused:
        somebody.apply(
            {
                "apiVersion": "dragoman.dev/v1alpha1",
                "kind": "AcceleratorPolicy",
                "metadata": {"name": "mine"},
                "spec": {"sharing": False},
            }
        )
    assert refused.value.status == 403
