"""AdmissionReviews of every kind, as API servers send them, and what the webhooks answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.validation.selectors import Selectors
from tests.driver.validation.test_hostile import ANYTHING
from tooling.replay import __main__ as command
from tooling.replay import admit
from tooling.replay.admit_reviews import KINDS, review
from tooling.replay.admit_scene import read_scene
from tooling.replay.admit_settings import ReplaySettings

JSON = dict[str, Any]
CLUSTER = Path(__file__).parent / "admit" / "cluster.yaml"


def pod(**limits: str) -> JSON:
    amounts = {name.replace("__", "/").replace("_", "."): value for name, value in limits.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "train-", "labels": {"app": "train"}},
        "spec": {"containers": [{"name": "main", "image": "x", "resources": {"limits": amounts}}]},
    }


def claim(
    name: str = "c", *, memory: str = "4Gi", count: int = 1, device_class: str = "nvidia.dragoman.dev"
) -> JSON:
    exactly = {
        "deviceClassName": device_class,
        "allocationMode": "ExactCount",
        "count": count,
        "capacity": {"requests": {"memory": memory}},
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "apps", "uid": f"uid-{name}"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }


REPLAYED = admit.Replay(read_scene([CLUSTER]), ReplaySettings().complete(release="1.34"))


class Run:
    """One run of the command."""

    def __init__(self, lines: list[str], status: int) -> None:
        self.status = status
        self.documents = [_documents(line) for line in lines]
        self.responses = [one[0]["response"] for one in self.documents]


def _documents(line: str) -> list[JSON]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(line):
        one, at = decoder.raw_decode(line, at)
        found.append(one)
        at += 1
    return found


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*reviews: JSON | bytes, flags: tuple[str, ...] = (), cluster: Path | None = CLUSTER) -> Run:
        content = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in reviews)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content + b"\n")))
        where = ("--cluster", str(cluster)) if cluster else ()
        status = command.main(("admit", *where, *flags))
        return Run(capsys.readouterr().out.splitlines(), status)

    return run


def patched(review: JSON, response: JSON) -> JSON:
    assert response["patchType"] == "JSONPatch"
    patch = json.loads(base64.b64decode(response["patch"]))
    found: JSON = jsonpatch.apply_patch(review["request"]["object"], patch)
    return found


def test_a_legacy_pod_is_converted_and_its_templates_follow(replay: Any) -> None:
    asked = review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="4000"))
    found = replay(asked)
    assert found.status == 0
    (response,) = found.responses
    assert (response["uid"], response["allowed"]) == ("r-1", True)
    made = patched(asked, response)
    (entry,) = made["spec"]["resourceClaims"]
    ((_, second),) = found.documents
    (template,) = second["templates"]
    assert template["metadata"] == {"name": entry["resourceClaimTemplateName"], "namespace": "apps"}
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["capacity"] == {"requests": {"memory": "4000Mi"}}
    assert made["metadata"]["labels"]["app"] == "train"


def test_templates_for_an_older_server_carry_the_amounts_that_it_drops(replay: Any) -> None:
    asked = review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="4000"))
    ((_, second),) = replay(asked, flags=("--release", "1.34")).documents
    (template,) = second["templates"]
    (entry,) = template["spec"]["spec"]["devices"]["config"]
    assert entry["opaque"]["parameters"]["capacity"] == {"requests": {"memory": "4000Mi"}}
    assert template["spec"]["metadata"]["annotations"]["dragoman.dev/asked"].startswith("sha256:")


def test_templates_can_stand_in_the_answer_itself(replay: Any) -> None:
    found = replay(review("Pod", pod(nvidia_com__gpu="1")), flags=("--one-document",))
    ((document,),) = found.documents
    assert len(document["templates"]) == 1
    assert document["response"]["allowed"]


@pytest.mark.parametrize("namespace", ["kube-system", "opted-out"])
def test_pods_of_namespaces_that_opt_out_stay_as_they_are(replay: Any, namespace: str) -> None:
    found = replay(review("Pod", pod(nvidia_com__gpu="1"), namespace=namespace))
    assert found.documents == [
        [
            {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": "r-1", "allowed": True},
            },
            {"templates": []},
        ]
    ]


def test_a_pod_that_is_none_of_ours_stays_as_it_is(replay: Any) -> None:
    found = replay(review("Pod", pod(cpu="1")))
    assert found.responses == [{"uid": "r-1", "allowed": True}]
    assert found.documents[0][1] == {"templates": []}


def test_a_converted_pod_that_comes_again_stays_as_it_is_and_has_the_same_templates(replay: Any) -> None:
    asked = review("Pod", pod(nvidia_com__gpu="1"))
    first = replay(asked)
    again = replay(review("Pod", patched(asked, first.responses[0]), uid="r-2"))
    assert again.responses == [{"uid": "r-2", "allowed": True}]
    assert again.documents[0][1] == first.documents[0][1]


def test_a_pod_that_cannot_be_converted_is_refused_and_has_no_templates(replay: Any) -> None:
    found = replay(review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="16Gi")))
    (response,) = found.responses
    assert not response["allowed"]
    (cause,) = response["status"]["details"]["causes"]
    assert cause["field"] == "spec.containers[0].resources.limits[nvidia.com/gpumem]"
    assert found.documents[0][1] == {"templates": []}
    assert found.status == 0, "a refusal is an answer"


def test_more_than_a_card_has_is_told_to_a_pod_without_a_unit_that_it_could_not_write(replay: Any) -> None:
    (response,) = replay(
        review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="100000"), namespace="apps")
    ).responses
    message = response["status"]["message"]
    assert message.startswith("AmountTooLarge: spec.containers[0].resources.limits[nvidia.com/gpumem]: ")
    assert message.endswith(
        "has 80Gi. Ask for at most that, in the unit of the resource; several cards are a count."
    )


def test_a_mark_that_somebody_wrote_into_a_pod_gives_no_template(replay: Any) -> None:
    forged = pod(cpu="1")
    forged["metadata"] |= {
        "labels": {"dragoman.dev/converted": "true"},
        "annotations": {"dragoman.dev/converted-from": '{"containers": {}, "template": "../x"}'},
    }
    ((_, second),) = replay(review("Pod", forged)).documents
    assert second["templates"] == []
    assert second["problem"]


def test_a_claim_is_stamped_where_the_server_drops_amounts_and_left_alone_where_it_keeps_them(
    replay: Any,
) -> None:
    asked = review("ResourceClaim", claim())
    assert replay(asked).responses == [{"uid": "r-1", "allowed": True}]
    for release in ("1.34", "1.35"):
        (response,) = replay(asked, flags=("--release", release)).responses
        made = patched(asked, response)
        assert made["metadata"]["annotations"]["dragoman.dev/asked"]
        assert made["spec"]["devices"]["config"]


@pytest.mark.parametrize(
    ("kind", "found", "reason"),
    [
        ("ResourceClaim", claim(memory="100Gi"), "AmountTooLarge"),
        ("ResourceClaim", claim(memory="-1Gi"), "InvalidAmount"),
        (
            "ResourceClaimTemplate",
            {"metadata": {"name": "t"}, "spec": {"spec": claim(memory="0")["spec"]}},
            "InvalidAmount",
        ),
        (
            "DeviceClass",
            {
                "metadata": {"name": "x.dragoman.dev"},
                "spec": {"selectors": [{"cel": {"expression": "device.drivr == 1"}}]},
            },
            "InvalidSelector",
        ),
        ("AcceleratorPolicy", {"metadata": {"name": "p"}, "spec": {"shring": True}}, "InvalidConfig"),
        (
            "AcceleratorPolicy",
            {"metadata": {"name": "p"}, "spec": {"isolation": ["none", "preload"]}},
            "ContradictingPolicy",
        ),
        ("AcceleratorQuota", {"metadata": {"name": "q"}, "spec": {"hard": {}}}, "InvalidConfig"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(
    replay: Any, kind: str, found: JSON, reason: str
) -> None:
    (response,) = replay(review(kind, found)).responses
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    assert response["status"]["message"].startswith(f"{reason}: ")


def test_the_release_decides_what_is_refused(replay: Any) -> None:
    twice = review("ResourceClaim", claim(count=2))
    assert replay(twice).responses[0]["allowed"]
    (response,) = replay(twice, flags=("--release", "1.34")).responses
    assert response["status"]["message"].startswith("SharesOfOneCard: ")
    (cause,) = response["status"]["details"]["causes"]
    assert cause["field"] == "spec.devices.requests[0].exactly.count"


def test_cards_of_slices_count_like_those_of_nodes(replay: Any) -> None:
    found = claim(memory="40Gi")
    ours = 'device.attributes["dragoman.dev"]'
    selector = f'{ours}.model == "NVIDIA L4" && {ours}.rack == "r7"'
    found["spec"]["devices"]["requests"][0]["exactly"]["selectors"] = [{"cel": {"expression": selector}}]
    (response,) = replay(review("ResourceClaim", found)).responses
    assert "the card has 24Gi" in response["status"]["message"]


def test_a_selector_that_holds_for_no_card_is_a_warning_in_the_answer(replay: Any) -> None:
    found = claim()
    selector = 'device.attributes["dragoman.dev"].modell == "NVIDIA L4"'
    found["spec"]["devices"]["requests"][0]["exactly"]["selectors"] = [{"cel": {"expression": selector}}]
    (response,) = replay(review("ResourceClaim", found)).responses
    assert response["allowed"]
    (warning,) = response["warnings"]
    assert "Did you mean model?" in warning


def test_admitted_claims_count_for_the_next_line_and_dry_runs_do_not(replay: Any) -> None:
    def ask(name: str, memory: str, **more: Any) -> JSON:
        return review("ResourceClaim", claim(name, memory=memory), namespace="team", uid=name, **more)

    found = replay(
        ask("a", "30Gi", dryRun=True),
        ask("b", "30Gi"),
        ask("c", "20Gi"),
        ask("c", "10Gi"),
        ask("b", "30Gi"),
        ask("d", "1Gi"),
        review("ResourceClaim", None, namespace="team", uid="e", operation="DELETE", name="b"),
        ask("d", "30Gi"),
        ask("f", "41Gi"),
    )
    # 20Gi of 60Gi are used by the claim of the file.
    allowed = [one["allowed"] for one in found.responses]
    assert allowed == [True, True, False, True, True, False, True, True, False]
    assert found.responses[2]["status"]["code"] == 403
    assert "asked 20Gi, used 50Gi of 60Gi, left 10Gi" in found.responses[2]["status"]["message"]
    assert found.responses[8]["status"]["message"].startswith("QuotaPerClaim")


def test_templates_and_converted_pods_are_told_early_what_quotas_will_say(replay: Any) -> None:
    template = {"metadata": {"name": "t"}, "spec": {"spec": claim(memory="41Gi")["spec"]}}
    found = replay(
        review("ResourceClaimTemplate", template, namespace="team"),
        review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="7900"), namespace="legacy"),
        review("Pod", pod(nvidia_com__gpu="1", nvidia_com__gpumem="8100"), namespace="legacy"),
    )
    told = [
        any("Its claims will be refused" in text for text in one.get("warnings") or [])
        for one in found.responses
    ]
    assert told == [True, False, True]


def test_a_quota_that_says_what_is_used_is_taken_at_its_word(replay: Any) -> None:
    lines = [review("ResourceClaim", claim(name), namespace="told", uid=name) for name in ("a", "b")]
    assert [one["allowed"] for one in replay(*lines).responses] == [True, False]


@pytest.mark.parametrize(
    ("expires", "stored", "allowed"),
    [
        ("2020-01-01T00:00:00Z", False, True),
        ("2020-01-01T00:00:00Z", True, False),
        ("2999-01-01T00:00:00Z", False, False),
    ],
    ids=["ended", "ended, and the claim is there", "open"],
)
def test_what_was_promised_to_a_claim_that_never_came_is_free(
    replay: Any, tmp_path: Path, expires: str, *, stored: bool, allowed: bool
) -> None:
    promise = {"uid": "uid-old", "memoryMiB": 8192, "cores": 0, "cards": 1, "expires": expires}
    quota = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorQuota",
        "metadata": {"name": "q", "namespace": "apps"},
        "spec": {"hard": {"memory": "10Gi"}},
        "status": {"used": {"memory": "8Gi", "cores": "0", "cards": "1"}, "reservations": [promise]},
    }
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all([_slice(), quota, *([claim("old", memory="8Gi")] if stored else [])]))
    run = replay(review("ResourceClaim", claim("new", memory="4Gi")), cluster=path)
    assert [one["allowed"] for one in run.responses] == [allowed]


def test_who_makes_a_pod_whose_claims_a_quota_will_refuse_is_told(replay: Any) -> None:
    asked = pod(nvidia_com__gpu="1", nvidia_com__gpumem="41000")
    (response,) = replay(review("Pod", asked, namespace="team")).responses
    assert response["allowed"]
    assert any("Its claims will be refused" in one for one in response["warnings"])


def test_a_pod_that_names_its_node_is_converted_where_our_allocator_decides(replay: Any) -> None:
    asked = pod(nvidia_com__gpu="1")
    asked["spec"]["nodeName"] = "gpu-1"
    assert not replay(review("Pod", asked)).responses[0]["allowed"]
    assert replay(review("Pod", asked), flags=("--release", "1.34")).responses[0]["allowed"]


def test_a_request_without_a_namespace_is_one_of_the_default_namespace(replay: Any, tmp_path: Path) -> None:
    quota = tmp_path / "quota.yaml"
    quota.write_text("kind: AcceleratorQuota\nmetadata: {name: q}\nspec: {hard: {memory: 1Gi}}\n")
    bare = claim()
    del bare["metadata"]["namespace"]
    found = replay(review("ResourceClaim", bare, namespace=""), flags=("--cluster", str(quota)))
    assert found.responses[0]["status"]["message"].startswith("QuotaExceeded")


def test_a_resource_quota_of_before_holds_for_claims(replay: Any) -> None:
    lines = [
        review("ResourceClaim", claim(name, memory="5000Mi"), namespace="legacy", uid=name)
        for name in ("a", "b")
    ]
    assert [one["allowed"] for one in replay(*lines).responses] == [True, False]


@pytest.mark.parametrize(
    "line",
    [
        b"{nonsense",
        b"[]",
        b'"text"',
        b'{"kind": "AdmissionReview"}',
        b'{"kind": "AdmissionReview", "request": {"uid": "u", "kind": 3}}',
        json.dumps(review("ResourceClaim", {"spec": {"devices": {"requests": 3}}})).encode(),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_review_gets_an_answer_and_the_replay_goes_on(replay: Any, line: bytes) -> None:
    found = replay(line, review("ResourceClaim", claim()))
    first, second = found.responses
    assert not first["allowed"]
    assert first["status"]["message"]
    assert second["allowed"]


def test_the_exit_status_tells_of_lines_that_were_no_review(replay: Any) -> None:
    assert replay(b"{nonsense").status == 2
    assert replay(b'{"request": {"uid": "known"}}').responses[0]["uid"] == "known"


def test_a_line_that_is_too_long_is_passed_over_to_its_end(
    replay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit, "MOST_BYTES", 2000)
    found = replay(b'{"a": "' + b"x" * 9000 + b'"}', review("ResourceClaim", claim()))
    assert [one["allowed"] for one in found.responses] == [False, True]
    assert "longer than" in found.responses[0]["status"]["message"]


@given(
    kind=st.sampled_from([*KINDS, "Secret"]),
    operation=st.sampled_from(["CREATE", "UPDATE", "DELETE"]),
    found=st.dictionaries(st.sampled_from(["metadata", "spec", "kind"]), ANYTHING),
)
@settings(max_examples=60, deadline=None)
def test_any_object_gets_an_answer_or_is_said_to_be_none(kind: str, operation: str, found: JSON) -> None:
    asked = review("Pod", found)
    asked["request"] |= {"kind": {"kind": kind}, "operation": operation}
    with contextlib.suppress(ValueError):
        answered, _ = asyncio.run(REPLAYED.answer(asked))
        assert answered["response"]["uid"] == "r-1"


def test_without_a_cluster_there_is_nothing_in_it(replay: Any) -> None:
    assert replay(review("ResourceClaim", claim(memory="4Ti")), cluster=None).responses[0]["allowed"]


def test_settings_can_be_in_the_file(replay: Any, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "apiVersion: dragoman.dev/v1alpha1\n"
        "kind: ReplaySettings\n"
        "spec: {release: '1.34', cardsMayCome: true, conversion: {defaultMemoryMib: 5000}, "
        "excludedNamespaces: [quiet]}\n"
    )
    flags = ("--cluster", str(settings))
    asked = review("Pod", pod(nvidia_com__gpu="1"))
    found = replay(asked, review("Pod", pod(nvidia_com__gpu="1"), namespace="quiet"), flags=flags)
    devices = found.documents[0][1]["templates"][0]["spec"]["spec"]["devices"]
    assert devices["config"], "1.34 drops amounts"
    assert devices["requests"][0]["exactly"]["capacity"] == {"requests": {"memory": "5000Mi"}}
    assert found.documents[1][1] == {"templates": []}
    (response,) = replay(review("ResourceClaim", claim(memory="100Gi")), flags=flags).responses
    assert response["allowed"]
    assert response["warnings"]


def _manifests() -> list[JSON]:
    return [one for one in yaml.safe_load_all(CLUSTER.read_text()) if one]


@pytest.mark.parametrize(
    "written",
    [
        lambda docs: "\n".join(map(json.dumps, docs)),
        lambda docs: "".join(json.dumps(one, indent=1) for one in docs),
        json.dumps,
        lambda docs: json.dumps({"apiVersion": "v1", "kind": "List", "items": docs}),
        lambda docs: "\ufeff" + yaml.safe_dump_all(docs).replace("\n", "\r\n"),
    ],
    ids=["a line each", "one after the other", "an array", "a List", "with a BOM and CRLF"],
)
def test_a_cluster_is_the_same_however_it_is_written(replay: Any, tmp_path: Path, written: Any) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(written(_manifests()), newline="")
    asked = [review("ResourceClaim", claim(memory=memory)) for memory in ("90Gi", "70Gi")]
    assert replay(*asked, cluster=path).documents == replay(*asked).documents


@pytest.mark.parametrize("metadata", [{"namespace": "kube-system"}, {}])
def test_a_request_without_a_namespace_is_about_that_of_its_object(replay: Any, metadata: JSON) -> None:
    made = pod(nvidia_com__gpu="1")
    made["metadata"] |= metadata
    asked = review("Pod", made)
    del asked["request"]["namespace"]
    (found,) = replay(asked).documents
    templates = found[1]["templates"]
    assert [one["metadata"]["namespace"] for one in templates] == ([] if metadata else ["default"])


def test_answers_do_not_depend_on_how_busy_the_machine_is(
    replay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = itertools.count(0.0, 0.1)
    defaults = Selectors.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "clock", lambda: next(slow))
    (response,) = replay(review("ResourceClaim", claim(memory="90Gi"))).responses
    assert "AmountTooLarge" in response["status"]["message"]


def test_without_any_class_those_of_the_chart_are_there(replay: Any, tmp_path: Path) -> None:
    path = tmp_path / "cards.yaml"
    path.write_text(yaml.safe_dump_all(one for one in _manifests() if one["kind"] == "AcceleratorNode"))
    found = replay(
        review("ResourceClaim", claim(memory="90Gi")),
        review("ResourceClaim", claim(memory="70Gi")),
        review("ResourceClaim", claim(device_class="nvida.dragoman.dev")),
        cluster=path,
    )
    assert [one["allowed"] for one in found.responses] == [False, True, True]
    assert "Did you mean nvidia.dragoman.dev?" in found.responses[2]["warnings"][0]


def test_classes_of_the_chart_are_there_beside_those_of_the_file(replay: Any, tmp_path: Path) -> None:
    own = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "mine"}}
    own |= {"spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]}}
    nodes = [one for one in _manifests() if one["kind"] == "AcceleratorNode"]
    path = tmp_path / "cards.yaml"
    path.write_text(yaml.safe_dump_all([*nodes, own]))
    found = replay(
        review("ResourceClaim", claim(memory="90Gi")),
        review("ResourceClaim", claim(memory="90Gi", device_class="mine")),
        cluster=path,
    )
    assert [one["allowed"] for one in found.responses] == [False, False]


def _slice() -> JSON:
    device = {
        "name": "nvidia-1",
        "attributes": {"vendor": {"string": "nvidia"}, "model": {"string": "NVIDIA L4"}},
        "capacity": {"memory": {"value": "24Gi"}, "cores": {"value": "100"}},
        "allowMultipleAllocations": True,
    }
    spec = {"driver": "dragoman.dev", "nodeName": "node-1", "devices": [device]}
    metadata = {"name": "node-1"}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate"])
def test_an_older_version_is_read_as_the_api_server_would_convert_it(replay: Any, kind: str) -> None:
    flat = claim(memory="500m")
    (request,) = flat["spec"]["devices"]["requests"]
    flat["spec"]["devices"]["requests"] = [{"name": "gpu", **request["exactly"]}]
    flat |= {"apiVersion": "resource.k8s.io/v1beta1", "kind": kind}
    if kind != "ResourceClaim":
        flat["spec"] = {"spec": flat["spec"]}
    (response,) = replay(review(kind, flat)).responses
    assert "requests[0].exactly.capacity.requests.memory" in response["status"]["message"]


def test_slices_of_an_older_version_are_read_as_the_api_server_would_convert_them(
    replay: Any, tmp_path: Path
) -> None:
    found = _slice()
    found["apiVersion"] = "resource.k8s.io/v1beta1"
    (device,) = found["spec"]["devices"]
    found["spec"]["devices"] = [{"name": device.pop("name"), "basic": device}]
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(found))
    run = replay(review("ResourceClaim", claim(memory="25Gi")), cluster=path)
    assert "the card has 24Gi" in run.responses[0]["status"]["message"]


@pytest.mark.parametrize(
    ("labels", "asked"),
    [({"pool": "a"}, [True, False]), ({"pool": "b"}, [True, True]), (None, [True, True])],
    ids=["picked", "not picked", "unknown"],
)
def test_policies_hold_for_cards_of_slices_whose_node_they_pick(
    replay: Any, tmp_path: Path, labels: Any, asked: list[bool]
) -> None:
    ours = {"apiVersion": "dragoman.dev/v1alpha1"}
    spec = {"nodeSelector": {"matchLabels": {"pool": "a"}}, "allowUncapped": False, "reservedMemory": "30Gi"}
    policy = {**ours, "kind": "AcceleratorPolicy", "metadata": {"name": "capped"}, "spec": spec}
    hard = {**ours, "kind": "AcceleratorQuota", "metadata": {"name": "q", "namespace": "apps"}}
    found = [_slice(), policy, {**hard, "spec": {"hard": {"cores": "100"}}}]
    if labels is not None:
        found.append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": labels}})
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(found))
    run = replay(*(review("ResourceClaim", claim(name, memory="1Gi")) for name in "ab"), cluster=path)
    assert [one["allowed"] for one in run.responses] == asked


def test_a_kind_of_another_group_is_none_of_ours(replay: Any) -> None:
    asked = review("Pod", pod(nvidia_com__gpu="1"))
    asked["request"]["kind"]["group"] = "example.com"
    (response,) = replay(asked).responses
    assert response == {"uid": "r-1", "allowed": True}


def test_objects_that_play_no_part_are_passed_over_and_named(
    replay: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dump.yaml"
    others = "---\napiVersion: {}\nkind: {}\nmetadata: {{name: x}}\n"
    path.write_text(
        CLUSTER.read_text() + others.format("apps/v1", "Deployment") + others.format("v1", "Secret")
    )
    asked = review("ResourceClaim", claim(memory="90Gi"))
    assert replay(asked, cluster=path).responses == replay(asked).responses
    command.main(("admit", "--cluster", str(path)))
    said = capsys.readouterr().err
    assert "Deployment x: objects of this kind play no part here." in said
    assert "Secret x" in said


def test_attributes_and_capacities_of_slices_may_have_the_drivers_domain(replay: Any, tmp_path: Path) -> None:
    device = {
        "name": "nvidia-9",
        "allowMultipleAllocations": True,
        "attributes": {
            "dragoman.dev/vendor": {"string": "nvidia"},
            "dragoman.dev/model": {"string": "H200"},
        },
        "capacity": {"dragoman.dev/memory": {"value": "100Gi"}, "dragoman.dev/cores": {"value": "100"}},
    }
    made = {
        "kind": "ResourceSlice",
        "metadata": {"name": "s"},
        "spec": {"driver": "dragoman.dev", "nodeName": "n9", "devices": [device]},
    }
    path = tmp_path / "slice.json"
    path.write_text(json.dumps(made))
    (response,) = replay(
        review("ResourceClaim", claim(memory="90Gi")), flags=("--cluster", str(path))
    ).responses
    assert response["allowed"]


def test_partitions_that_draw_on_their_cards_counters_are_none_that_exist(tmp_path: Path) -> None:
    def device(name: str, **more: Any) -> JSON:
        attributes = {
            key: {"string": value} for key, value in {"profile": "1g.5gb", "parentUUID": "GPU-9"}.items()
        }
        return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": "1Gi"}}, **more}

    draws = {"consumesCounters": [{"counterSet": "nvidia-9", "counters": {"memory": {"value": "1Gi"}}}]}
    devices = [device("nvidia-9-mig-0-0-1"), device("nvidia-9-mig-1-0-1", **draws)]
    exists = [one.partition.exists for one in cards_of_slices(tmp_path, devices) if one.partition]
    assert exists == [True, False]


def test_a_card_that_several_slices_name_is_there_once(tmp_path: Path) -> None:
    card = {"name": "nvidia-9", "capacity": {"memory": {"value": "40Gi"}}}
    other = {**card, "name": "nvidia-8"}
    assert [one.name for one in cards_of_slices(tmp_path, [card], [card, other])] == ["nvidia-9", "nvidia-8"]


def cards_of_slices(folder: Path, *slices: list[JSON]) -> list[Any]:
    made = [
        {
            "kind": "ResourceSlice",
            "metadata": {"name": f"s{number}"},
            "spec": {"driver": "dragoman.dev", "nodeName": "n9", "devices": devices},
        }
        for number, devices in enumerate(slices)
    ]
    path = folder / "slices.json"
    path.write_text(json.dumps(made))
    return read_scene([path]).cards["n9"]


def test_partitions_are_read_from_slices_as_well(replay: Any, tmp_path: Path) -> None:
    def device(name: str, memory: str, **attributes: str) -> JSON:
        said = {"vendor": "nvidia", "model": "A", **attributes}
        return {
            "name": name,
            "attributes": {key: {"string": value} for key, value in said.items()},
            "capacity": {"memory": {"value": memory}, "cores": {"value": "14"}},
        }

    devices = [
        {**device("nvidia-9", "40Gi", uuid="GPU-9"), "allowMultipleAllocations": True},
        device("nvidia-9-mig-0-0-1", "4864Mi", profile="1g.5gb", parentUUID="GPU-9"),
        device("nvidia-9-mig-1-0-2", "9856Mi", profile="2g.10gb", parentUUID="GPU-9"),
    ]
    made = {
        "kind": "ResourceSlice",
        "metadata": {"name": "s"},
        "spec": {"driver": "dragoman.dev", "nodeName": "n9", "devices": devices},
    }
    path = tmp_path / "slice.json"
    path.write_text(json.dumps(made))
    resources = {"limits": {"nvidia.com/gpu": "1", "nvidia.com/gpumem-percentage": "20"}}
    pod = {
        "metadata": {"annotations": {"nvidia.com/vgpu-mode": "mig"}},
        "spec": {"containers": [{"name": "main", "resources": resources}]},
    }
    ((_, made_of_it),) = replay(review("Pod", pod), flags=("--cluster", str(path))).documents
    (request,) = made_of_it["templates"][0]["spec"]["spec"]["devices"]["requests"]
    (option,) = request["firstAvailable"]
    assert option["capacity"] == {"requests": {"memory": "9856Mi"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: Gadget\nmetadata: {name: g}", "the kind 'Gadget' is not known here. Known kinds:"),
        ("apiVersion: dragoman.dev/v1alpha1\nkind: Gadget\nmetadata: {name: g}", "Known kinds:"),
        ("apiVersion: v1\nkind: Namespaces\nmetadata: {name: g}", "Did you mean Namespace?"),
        ("apiVersion: v1\nmetadata: {name: g}", "the kind '' is not known here"),
        (
            "kind: ResourceSlice\nmetadata: {name: s}\nspec: {driver: dragoman.dev, devices: [{name: d}]}",
            "device d has no memory",
        ),
        ("- 1", "is no object"),
        ("{a: [", "is no YAML"),
        ("a: 2026-13-45", "is no YAML: month must be in 1..12"),
        (f'{{"a": {"9" * 5000}}}', "is no YAML"),
        ("kind: AcceleratorNode\nmetadata: {name: n}\nstatus: {cards: [{name: x}]}", "AcceleratorNode n"),
        ("kind: AcceleratorPolicy\nmetadata: {name: p}\nspec: {shring: true}", "Did you mean 'sharing'?"),
        ("kind: AcceleratorQuota\nmetadata: {name: q}\nspec: {hard: {}}", "AcceleratorQuota q"),
        ("kind: ReplaySettings\nspec: {relase: '1.34'}", "Did you mean 'release'?"),
        (
            "kind: ResourceSlice\nmetadata: {name: s}\nspec: {driver: dragoman.dev, devices: [3]}",
            "ResourceSlice s",
        ),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_a_sentence(
    replay: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(content)
    assert replay(cluster=path).status == 2
    path.write_text(content)
    command.main(("admit", "--cluster", str(path)))
    assert said in capsys.readouterr().err


def test_help_tells_what_goes_in_and_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(("admit", "--help"))
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("AdmissionReview", "--cluster", "--release", "templates", "exit status", "ReplaySettings"):
        assert word in text


def test_admit_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(("--check", "admit"))
    assert ended.value.code == 2
    assert "stands first" in capsys.readouterr().err
