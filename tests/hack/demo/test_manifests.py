from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driver.errors import ConfigError
from tooling.demo.manifests import load_documents, read_manifests

REQUEST = {"name": "card", "exactly": {"deviceClassName": "accelerator.dragoman.dev"}}


def claim(kind: str = "ResourceClaim", name: str = "c", **changes: Any) -> dict[str, Any]:
    devices = {"devices": {"requests": [REQUEST]}}
    spec = devices if kind == "ResourceClaim" else {"spec": devices}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
        **changes,
    }


@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate"])
def test_a_claim_and_a_template_become_the_claim_of_a_pod(kind: str) -> None:
    asked = read_manifests([claim(kind)], source="f").claims[0]
    assert asked.claim["metadata"]["ownerReferences"][0]["uid"] == asked.pod["metadata"]["uid"]
    assert asked.pod["status"]["resourceClaimStatuses"] == [{"name": "cards", "resourceClaimName": "c"}]


def test_the_servers_defaults_are_filled_in() -> None:
    exactly = (
        read_manifests([claim()], source="f").claims[0].claim["spec"]["devices"]["requests"][0]["exactly"]
    )
    assert (exactly["allocationMode"], exactly["count"]) == ("ExactCount", 1)


def test_the_file_is_not_changed_by_filling_in_defaults() -> None:
    document = claim()
    read_manifests([document], source="f")
    assert "count" not in document["spec"]["devices"]["requests"][0]["exactly"]


def test_each_request_gets_a_container_of_its_own() -> None:
    document = claim()
    document["spec"]["devices"]["requests"] = [{**REQUEST, "name": "a"}, {**REQUEST, "name": "b"}]
    containers = read_manifests([document], source="f").claims[0].pod["spec"]["containers"]
    assert [container["resources"]["claims"][0]["request"] for container in containers] == ["a", "b"]


def test_a_pod_of_the_file_that_names_the_template_is_taken() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mine"},
        "spec": {
            "containers": [{"name": "main", "resources": {"claims": [{"name": "gpu"}]}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "c"}],
        },
    }
    asked = read_manifests([claim("ResourceClaimTemplate"), pod], source="f").claims[0]
    assert asked.pod["spec"]["containers"][0]["name"] == "main"


def test_classes_are_kept_as_they_are() -> None:
    document = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "x"},
        "spec": {},
    }
    assert read_manifests([document], source="f").classes == (document,)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}},
            "kind Service means nothing here",
        ),
        (claim(apiVersion="resource.k8s.io/v1beta1"), "apiVersion 'resource.k8s.io/v1beta1' is not known"),
        (claim(spec={}), "needs a name and requests"),
    ],
)
def test_what_means_nothing_is_refused_by_name(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_manifests([document], source="f")


@pytest.mark.parametrize(("content", "said"), [("a: [", "is no YAML"), ("- 1\n", "not a Kubernetes object")])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_documents(path)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_documents(tmp_path / "nowhere.yaml")
