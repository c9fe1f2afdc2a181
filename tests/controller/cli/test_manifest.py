"""Files that people give to `simulate`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from controller.cli.manifest import MAX_BYTES, read_manifest
from driver.errors import InvalidInputError

POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML: line"),
        ("just words", "document 1 is no object"),
        ("", "holds no pod"),
        ("{kind: Pod, apiVersion: v1}", "no kind or no metadata"),
        ("{kind: Pod, apiVersion: v1, metadata: {}}", "no metadata.name"),
        ("{kind: Pod, apiVersion: v1, metadata: {name: p}}", "spec"),
        ("{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {containers: 7}}", "spec.containers"),
        ("{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {resourceClaims: [x]}}", "resourceClaims"),
        ("{kind: ResourceClaim, apiVersion: resource.k8s.io/v1beta1, metadata: {name: c}}", "v1beta1"),
        (
            "{kind: ResourceClaim, apiVersion: resource.k8s.io/v1, metadata: {name: c}, spec: {devices: 1}}",
            "devices",
        ),
        ("{kind: List, apiVersion: v1, items: [3]}", "an item of document 1"),
        ("a: &a [*a]", "values"),
        ("\x00", "is no YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        read_manifest(str(path), namespace="team-a")
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.remedy


def test_aliases_cannot_multiply_without_end(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(levels))
    with pytest.raises(InvalidInputError, match="values"):
        read_manifest(str(path), namespace="team-a")


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidInputError, match="longer than 4 MiB"):
        read_manifest(str(path), namespace="team-a")


def test_too_many_pods_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, "
        "spec: {replicas: 1000000000, template: {spec: {}}}}"
    )
    with pytest.raises(InvalidInputError, match="more than 1,000 pods"):
        read_manifest(str(path), namespace="team-a")


def test_a_dash_is_standard_input() -> None:
    found = read_manifest("-", namespace="team-a", stdin=io.BytesIO(POD.encode()))
    assert [one["metadata"] for one in found.pods] == [{"name": "p", "namespace": "team-a"}]


def test_a_list_holds_objects_like_documents_do(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(f"apiVersion: v1\nkind: List\nitems: [{POD}, {POD}]")
    assert len(read_manifest(str(path), namespace="team-a").pods) == 2


def test_amounts_may_be_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "claim.yaml"
    path.write_text(
        "{kind: ResourceClaim, apiVersion: resource.k8s.io/v1, metadata: {name: c}, spec: {devices: "
        "{requests: [{name: r, exactly: {deviceClassName: x, capacity: {requests: {cores: 30}}}}]}}}"
    )
    (claim,) = read_manifest(str(path), namespace="n").claims.values()
    exactly = claim["spec"]["devices"]["requests"][0]["exactly"]
    assert exactly["capacity"]["requests"] == {"cores": "30"}
