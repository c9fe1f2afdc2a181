"""Pods of before on stock Kubernetes that drops what claims ask for, beside their twins with claims.

One cluster for each release, in mode controller; a policy lets shares run whose limits nobody holds, so that
simulated Ascend cards can be shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from driver.api.share_allocation import is_share_allocation
from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster import test_conversion as converted
from tests.cluster.support import cards, stock, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space, open_space
from tests.cluster.test_conversion import SHARE, legacy, nothing_left
from tests.cluster.test_dry_run import dry_runs, something_of_each_kind

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]


@dataclass(frozen=True, kw_only=True)
class Twins:
    """What a pod of before asks for, and the request that means the same."""

    limits: dict[str, str]
    annotations: dict[str, str]
    request: JSON


PAIRS = {
    "nvidia": Twins(
        limits=SHARE,
        annotations={"nvidia.com/use-gpuuuid": cards.NVIDIA_40.uuid},
        request=request(memory="4000Mi", cores="30", cel=cards.on(cards.NVIDIA_40)),
    ),
    "volcano": Twins(
        limits={
            "volcano.sh/vgpu-number": "1",
            "volcano.sh/vgpu-memory": "3000",
            "volcano.sh/vgpu-cores": "20",
        },
        annotations={"volcano.sh/vgpu-use-gpuuuid": cards.NVIDIA_40.uuid},
        request=request(memory="3000Mi", cores="20", cel=cards.on(cards.NVIDIA_40)),
    ),
    "ascend": Twins(
        limits={"huawei.com/Ascend910B4": "1", "huawei.com/Ascend910B4-memory": "8192"},
        annotations={},
        # Its template vir05_1c_8g: 8 GiB and 5 of 20 cores.
        request=request(of="ascend.dragoman.dev", memory="8Gi", cores="25"),
    ),
}


@pytest.fixture(scope="module", params=["1.34.4", "1.36.3"])
def installed_here(images: Images, request: pytest.FixtureRequest) -> Iterator[Installation]:
    for one in stock.in_mode_controller(images, purpose="before", version=request.param):
        policy = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": "unheld"},
            "spec": {"isolation": ["preload", "none"]},
        }
        one.api.apply(policy)
        waiting.wait_for(
            one.api,
            ACCELERATOR_NODES,
            one.node,
            lambda found: "preload, none" in str(found["status"]["policy"]),
            what="tells the methods",
        )
        yield one


@pytest.fixture
def place(installed_here: Installation) -> Iterator[Space]:
    one = open_space(installed_here.api, "before")
    yield one
    installed_here.expect_nothing_left(one.close())


def _given(claim: JSON) -> list[JSON]:
    """What was given, without the names of requests: memory and compute by device."""
    entries = claim["status"]["allocation"]["devices"]["config"]
    return [
        {key: share[key] for key in ("device", "memory", "cores")}
        for one in entries
        if is_share_allocation(one)
        for share in one["opaque"]["parameters"]["shares"]
    ]


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_pod_of_before_holds_what_its_twin_holds(place: Space, name: str) -> None:
    pair = PAIRS[name]
    place.create(legacy("before", pair.limits, annotations=pair.annotations), *sharing("twin", pair.request))
    place.running("before", "twin")
    before, twin = (place.seen(one) for one in ("before", "twin"))
    assert before.limits == twin.limits
    assert before.devices == twin.devices
    assert _given(place.claim_of("before")) == _given(place.claim_of("twin")) != []
    place.delete("before", "twin")
    nothing_left(place, but=("twin",))


@pytest.mark.timeout(2400)
def test_nothing_is_left_of_pods_that_are_rolled_made_again_or_cut_short(place: Space) -> None:
    # The same as where kube-scheduler allocates, on an API server that drops amounts.
    converted.test_rolling_a_deployment_leaves_no_claim_and_no_template_behind(place, 20)
    converted.test_pods_made_again_under_their_name_and_jobs_cut_short_leave_nothing_twenty_times(place)


def test_a_dry_run_changes_nothing_either(place: Space, installed_here: Installation, tmp_path: Path) -> None:
    with something_of_each_kind(place):
        dry_runs(place, installed_here, folder=tmp_path)
