from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cdi import ContainerEdits, DeviceNode, Hook, Mount
from driver.cdi.spec import (
    check_device_name,
    device_name_of,
    qualified_name,
    required_version,
    serialise,
    spec_document,
)
from driver.errors import InvalidInputError

UID = "0f3c2a1e-6a7b-4c8d-9e0f-112233445566"
OTHER_UID = "af3c2a1e-6a7b-4c8d-9e0f-112233445566"
PLAIN = ContainerEdits(device_nodes=(DeviceNode(path="/dev/nvidia0"),))

labels = st.sampled_from(["a", "b", "a-b", "gpu", "0", "nvidia-1"])
names = st.sampled_from(["a", "B", "0", "a.b", "a_b:c", "0f-1", "x-9", "Z9"])
paths = st.sampled_from(["/a", "/a/b", "/dev/null", "/dev/x", "/c.d"])
edits = st.builds(
    ContainerEdits,
    env=st.dictionaries(st.sampled_from(["A", "B", "C_1"]), st.sampled_from(["", "1", "a=b"])),
    device_nodes=st.lists(
        st.builds(
            DeviceNode, path=paths, host_path=st.just("") | paths, permissions=st.sampled_from(["", "rw"])
        ),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(tuple),
    mounts=st.lists(st.builds(Mount, host_path=paths, container_path=paths), max_size=3).map(tuple),
)
devices = st.dictionaries(names, edits, min_size=1, max_size=4)
few = settings(max_examples=60, deadline=None)


def test_a_device_is_named_by_claim_request_card_and_share() -> None:
    name = device_name_of(claim_uid=UID, request="gpu", device="nvidia-1", share_id=OTHER_UID)
    assert name == f"{UID}.gpu.nvidia-1.{OTHER_UID}"
    assert qualified_name(name) == f"dragoman.dev/share={UID}.gpu.nvidia-1.{OTHER_UID}"


def test_a_subrequest_is_part_of_the_name() -> None:
    assert device_name_of(claim_uid=UID, request="gpu/big", device="nvidia-1") == f"{UID}.gpu_big.nvidia-1"


results = st.tuples(
    labels | st.tuples(labels, labels).map("/".join), labels, st.just("") | st.sampled_from([UID, "a", "b"])
)


@few
@given(st.lists(results, min_size=2, max_size=2, unique=True))
def test_two_results_never_have_the_same_name(pair: list[tuple[str, str, str]]) -> None:
    first, second = (
        device_name_of(claim_uid=UID, request=request, device=device, share_id=share)
        for request, device, share in pair
    )
    assert first != second


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "é", "a\n", ".a"])
def test_what_cannot_be_a_device_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be the name of a CDI device"):
        check_device_name(name)


def test_names_that_start_with_a_letter_need_only_the_base_version() -> None:
    assert required_version({OTHER_UID: PLAIN}) == "0.3.0"


def test_a_name_that_starts_with_a_digit_needs_0_5_0() -> None:
    assert required_version({OTHER_UID: PLAIN, UID: PLAIN}) == "0.5.0"


def test_a_device_node_with_another_host_path_needs_0_5_0() -> None:
    node = DeviceNode(path="/dev/nvidia0", host_path="/dev/null")
    assert required_version({"a": ContainerEdits(device_nodes=(node,))}) == "0.5.0"


def test_the_document_holds_every_edit() -> None:
    edits = ContainerEdits(
        env={"B": "2", "A": "1"},
        device_nodes=(
            DeviceNode(path="/dev/b", permissions="rw"),
            DeviceNode(path="/dev/a", host_path="/dev/null"),
        ),
        mounts=(Mount(host_path="/h", container_path="/c", options=("ro",)),),
        hooks=(Hook(hook_name="createContainer", path="/bin/h", args=("h", "x"), env=("E=1",)),),
    )
    assert spec_document({"d": edits}) == {
        "cdiVersion": "0.5.0",
        "kind": "dragoman.dev/share",
        "devices": [
            {
                "name": "d",
                "containerEdits": {
                    "env": ["A=1", "B=2"],
                    "deviceNodes": [
                        {"path": "/dev/a", "hostPath": "/dev/null"},
                        {"path": "/dev/b", "permissions": "rw"},
                    ],
                    "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro"]}],
                    "hooks": [
                        {"hookName": "createContainer", "path": "/bin/h", "args": ["h", "x"], "env": ["E=1"]}
                    ],
                },
            }
        ],
    }


def test_hooks_keep_their_order() -> None:
    hooks = (Hook(hook_name="createContainer", path="/b"), Hook(hook_name="createContainer", path="/a"))
    document = spec_document({"d": ContainerEdits(hooks=hooks)})
    assert [hook["path"] for hook in document["devices"][0]["containerEdits"]["hooks"]] == ["/b", "/a"]


def test_a_spec_without_devices_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one device"):
        spec_document({})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ContainerEdits(), "edits nothing"),
        (ContainerEdits(env={"A=B": "1"}), "environment variable"),
        (ContainerEdits(env={"": "1"}), "environment variable"),
        (ContainerEdits(env={"A": "x\0y"}), "environment variable"),
        (ContainerEdits(mounts=(Mount(host_path="h", container_path="/c"),)), "absolute path"),
        (ContainerEdits(device_nodes=(DeviceNode(path="/d", host_path="n"),)), "absolute path"),
        (ContainerEdits(device_nodes=(DeviceNode(path="/d", permissions="x"),)), "permissions"),
        (ContainerEdits(hooks=(Hook(hook_name="before", path="/h"),)), "OCI hook"),
    ],
)
def test_an_edit_that_no_runtime_would_load_is_refused(bad: ContainerEdits, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        spec_document({"d": bad})


@few
@given(devices, st.randoms(use_true_random=False))
def test_the_same_devices_give_the_same_bytes_in_whatever_order_they_come(
    found: dict[str, ContainerEdits], rng: random.Random
) -> None:
    shuffled = [
        (
            name,
            ContainerEdits(
                env=dict(rng.sample(list(e.env.items()), len(e.env))),
                device_nodes=tuple(rng.sample(e.device_nodes, len(e.device_nodes))),
                mounts=tuple(rng.sample(e.mounts, len(e.mounts))),
            ),
        )
        for name, e in found.items()
    ]
    rng.shuffle(shuffled)
    assert serialise(spec_document(found)) == serialise(spec_document(dict(shuffled)))


@few
@given(devices)
def test_the_bytes_decode_to_the_document(found: dict[str, ContainerEdits]) -> None:
    document = spec_document(found)
    assert json.loads(serialise(document)) == document


@few
@given(devices)
def test_the_version_is_the_lowest_that_holds_all_features(found: dict[str, ContainerEdits]) -> None:
    document: dict[str, Any] = json.loads(serialise(spec_document(found)))
    needs = any(
        device["name"][0].isdigit()
        or any("hostPath" in node for node in device["containerEdits"].get("deviceNodes", []))
        for device in document["devices"]
    )
    assert document["cdiVersion"] == ("0.5.0" if needs else "0.3.0")
