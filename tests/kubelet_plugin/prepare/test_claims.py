"""Claims and pods from a folder and from the API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from driver.errors import KubeError
from driver.kube.client import KubeClient, error_for
from kubelet_plugin.prepare.claims import ClaimMissingError, FileClaimSource, KubeClaimSource
from tests.support.node_world import claim, pod, result

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio


async def test_a_folder_holds_several_documents_and_lists(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all([claim("a", result()), pod("p")]))
    (tmp_path / "b.json").write_text(json.dumps({"kind": "List", "items": [claim("b", result())]}))
    source = FileClaimSource(tmp_path)
    for name in "ab":
        assert (await source.get_claim(namespace="default", name=name))["metadata"]["name"] == name
    assert (await source.get_pod(namespace="default", name="p")) == pod("p")
    assert (await source.get_pod(namespace="default", name="q")) is None


async def test_a_manifest_without_a_namespace_is_in_the_default_one(tmp_path: Path) -> None:
    found = pod("p")
    del found["metadata"]["namespace"]
    (tmp_path / "p.json").write_text(json.dumps(found))
    assert await FileClaimSource(tmp_path).get_pod(namespace="default", name="p") == found


async def test_what_changed_in_the_folder_is_seen_at_the_next_question(tmp_path: Path) -> None:
    source = FileClaimSource(tmp_path)
    with pytest.raises(ClaimMissingError) as missing:
        await source.get_claim(namespace="default", name="a")
    assert missing.value.reason == "ClaimMissing"
    (tmp_path / "a.json").write_text(json.dumps(claim("a", result())))
    assert await source.get_claim(namespace="default", name="a") == claim("a", result())
    (tmp_path / "a.json").unlink()
    with pytest.raises(ClaimMissingError):
        await source.get_claim(namespace="default", name="a")


async def test_a_manifest_that_is_half_written_is_passed_over_until_it_can_be_read(tmp_path: Path) -> None:
    source = FileClaimSource(tmp_path)
    text = json.dumps(claim("a", result()))
    (tmp_path / "a.json").write_text(text[:50])
    (tmp_path / "p.yaml").write_text("kind: [Pod")
    with pytest.raises(ClaimMissingError):
        await source.get_claim(namespace="default", name="a")
    (tmp_path / "a.json").write_text(text)
    assert await source.get_claim(namespace="default", name="a") == claim("a", result())


class Server:
    """Answers each path with an object or a status."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def request(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        answer = self.answers.get(path, 404)
        if isinstance(answer, int):
            raise error_for(answer, message=f"{method} {path}")
        found: dict[str, Any] = answer
        return found

    async def close(self) -> None:
        return

    def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> Any:
        raise AssertionError("nothing is watched")


async def test_the_api_server_is_asked_by_namespace_and_name() -> None:
    found = claim("a", result())
    source = KubeClaimSource(
        KubeClient(
            Server(
                {
                    "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/a": found,
                    "/api/v1/namespaces/default/pods/p": pod("p"),
                    "/api/v1/namespaces/default/pods/away": 0,
                }
            )
        )
    )
    assert await source.get_claim(namespace="default", name="a") == found
    assert await source.get_pod(namespace="default", name="p") == pod("p")
    assert await source.get_pod(namespace="default", name="q") is None
    with pytest.raises(ClaimMissingError):
        await source.get_claim(namespace="default", name="b")
    with pytest.raises(KubeError):
        await source.get_pod(namespace="default", name="away")
