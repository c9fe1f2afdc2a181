"""Shares held by MPS on a real node: a scheduler, kubelet and containerd, and a stand-in of NVIDIA's daemon.

Flow: the chart with `mps.install` -> pods whose containers join by the socket that they were given and print
which limits the daemon gave them -> the daemon dies, its pod goes, it does not come back -> limits are set
again, or the claim and the pod say that they are lost -> pods go, and their namespaces with them.

Limits: NVIDIA's own daemon was never run here; the stand-in speaks its documented commands. Nothing limits a
card: what is seen is which limits a program of a container is given by the daemon that holds them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driver.kube.resources import PODS
from kubelet_plugin.mps.control import Control, MpsCommandError
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DAEMON_SETS, JSON
from tests.cluster.support.cards import on
from tests.cluster.support.images import Images
from tests.cluster.support.installation import RELEASE, Installation, rolled_out
from tests.cluster.support.manifests import container, pod, request, sharing, template
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.space import Space, open_space
from tests.cluster.test_conversion import legacy
from tests.support.mps_node import install_program

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.timeout(1800)]

CARD = cards.NVIDIA_24
BOTH = (("1500M", "20"), ("4096M", "30"))
"""What the daemon holds of the pods `small` and `large`."""
CLIENT = Path(__file__).resolve().parents[1] / "native" / "mps_client.py"
POLICY = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "mps"},
    "spec": {"isolation": ["service", "preload"]},
}


class WithMps(Installation):
    """An installation whose NVIDIA cards have a driver with MPS v3, and whose daemon is the stand-in."""

    @property
    def mps_dir(self) -> Path:
        """The folder that agent and daemon share."""
        return Path(self._below("mps", default="/run/dragoman-mps"))

    @property
    def program(self) -> Path:
        """The stand-in on the node."""
        return Path(self._below("mps-program", default="/opt/mps")) / "nvidia-cuda-mps-control"

    def values(self, *, image: str = "") -> JSON:
        found = super().values(image=image)
        for card in found["simulated"]["cards"]:
            card["driverVersion"] = "615.71.09"
        found["mps"] = {
            "install": True,
            "memory": "per-process",
            "dir": str(self.mps_dir),
            "program": str(self.program),
            "runtimeClassName": "",
        }
        return found

    def install_program(self) -> None:
        """Puts the stand-in on the node, for the Python of the project's image."""
        folder = self.program.parent
        folder.mkdir(parents=True, exist_ok=True)
        lines = install_program(folder).read_text().splitlines(keepends=True)
        self.program.write_text("#!/usr/bin/python3 -IS\n" + "".join(lines[1:]))
        self.program.chmod(0o755)

    def behave(self, **plan: Any) -> None:
        """Tells the daemon how to misbehave from now on."""
        (self.program.parent / "script.json").write_text(json.dumps(plan))

    @property
    def daemon_pid(self) -> int:
        """Number of the daemon on the node; 0 while there is none."""
        with contextlib.suppress(FileNotFoundError):
            return int(json.loads((self.mps_dir / "daemon.json").read_text())["pid"])
        return 0

    def kill_daemon(self) -> None:
        """Ends the daemon by SIGKILL."""
        assert self.daemon_pid
        os.kill(self.daemon_pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[WithMps]:
    with bare_cluster(purpose="mps", version=kubernetes_version) as target:
        images.load(target)
        installed = WithMps(target, images=images)
        installed.install_program()
        installed.install()
        installed.wait_ready()
        installed.api.apply(POLICY)
        waiting.wait_for(
            installed.api,
            DAEMON_SETS,
            f"{RELEASE}-mps",
            rolled_out,
            what="is rolled out",
            namespace=installed.namespace,
        )
        installed.wait_slices(_held_by_mps, what="NVIDIA cards are held by MPS")
        yield installed


@pytest.fixture(scope="module")
def control(own: WithMps, tmp_path_factory: pytest.TempPathFactory) -> Control:
    """The daemon's own word, asked from the node."""
    program = install_program(tmp_path_factory.mktemp("mps"))
    return Control(str(program), pipe_dir=own.mps_dir / "pipe", log_dir=own.mps_dir / "log")


@pytest.fixture(scope="module")
def place(own: WithMps) -> Space:
    return open_space(own.target.api, "mps")


def _held_by_mps(slices: list[JSON]) -> bool:
    device = next(
        (one for each in slices for one in each["spec"].get("devices") or [] if one["name"] == CARD.device),
        None,
    )
    attributes = (device or {}).get("attributes") or {}
    return all(
        attributes.get(name, {}).get("string") == "service" for name in ("memoryIsolation", "coresIsolation")
    )


def _share(own: WithMps, name: str, *, memory: str, cores: str) -> list[JSON]:
    """A pod whose program uses its share again and again, and whose author sets MPS's variable himself."""
    program = container(
        "app",
        "card",
        image=own.images.project,
        command=["python3", "-c", CLIENT.read_text(), "again"],
        env=[{"name": "CUDA_MPS_PIPE_DIRECTORY", "value": "/elsewhere"}],
    )
    wanted = request(memory=memory, cores=cores, cel=on(CARD))
    return [template(name, wanted), pod(name, program, templates={"card": name})]


def _given(place: Space, name: str) -> list[JSON]:
    """What the programs of a pod were given, one after the other."""
    log = place.api.logs(name, namespace=place.name, container="app")
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def _first(place: Space, name: str) -> JSON:
    return waiting.eventually(lambda: _given(place, name), what=f"{name} wrote")[0]


def _last(place: Space, name: str) -> tuple[int | None, int | None]:
    given = _given(place, name)
    return (given[-1].get("memoryMiB"), given[-1].get("cores")) if given else (None, None)


def _limits(control: Control) -> list[tuple[str, str]]:
    try:
        return sorted((one.memory, one.cores) for one in control.namespaces() if one.name != "default")
    except MpsCommandError:
        return []


def _wait_limits(control: Control, *wanted: tuple[str, str]) -> None:
    """Waits until the daemon says that these are the limits of its namespaces; it may be busy when asked."""
    waiting.eventually(
        lambda: _limits(control) == list(wanted), what=f"the daemon holds {wanted or 'nothing'}"
    )


def _in_force(claim: JSON) -> JSON | None:
    for entry in claim["status"].get("devices") or []:
        for condition in entry.get("conditions") or []:
            if condition["type"] == "InForce":
                return dict(condition)
    return None


def test_containers_are_given_the_limits_of_their_own_share_and_of_no_other(
    own: WithMps, place: Space, control: Control
) -> None:
    place.create(*_share(own, "large", memory="4Gi", cores="30"))
    place.create(*_share(own, "small", memory="1500Mi", cores="20"))
    place.running("large", "small")
    for name, limits in (("large", (4096, 30)), ("small", (1500, 20))):
        given = _first(place, name)
        assert (given["memoryMiB"], given["cores"]) == limits
        assert given["devices"] == CARD.uuid
        assert given["folder"] == [".made", "control"]
    _wait_limits(control, *BOTH)
    assert {one.devices for one in control.servers()} == {CARD.uuid}


def test_a_pod_of_before_that_names_the_mode_is_given_the_limits_that_its_twin_with_a_claim_is_given(
    own: WithMps, place: Space, control: Control
) -> None:
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "2000", "nvidia.com/gpucores": "10"}
    mode = {"nvidia.com/vgpu-mode": "mps", "nvidia.com/use-gpuuuid": CARD.uuid}
    program = {"image": own.images.project, "command": ["python3", "-c", CLIENT.read_text(), "again"]}
    place.create(legacy("before", limits, annotations=mode, **program))
    place.create(*_share(own, "twin", memory="2000Mi", cores="10"))
    place.running("before", "twin")
    for name in ("before", "twin"):
        given = _first(place, name)
        assert (given["memoryMiB"], given["cores"], given["devices"]) == (2000, 10, CARD.uuid)
    (config,) = (
        one["opaque"]["parameters"]
        for one in place.claim_of("before")["spec"]["devices"]["config"]
        if "minimumIsolation" in one["opaque"]["parameters"]
    )
    assert config["minimumIsolation"] == {"cores": "service"}
    place.delete("before", "twin")
    _wait_limits(control, *BOTH)


def test_the_daemon_knows_its_clients_by_the_nodes_own_numbers(own: WithMps, control: Control) -> None:
    # It may not have noticed yet that clients of before are gone.
    clients = waiting.eventually(
        lambda: found if len(found := control.clients()) == 2 else None, what="it knows two clients"
    )
    for one in clients:
        assert b"again" in Path(f"/proc/{one.pid}/cmdline").read_bytes()


def test_the_daemon_dies_and_running_containers_get_their_limits_back_through_the_same_mount(
    own: WithMps, place: Space, control: Control
) -> None:
    began, daemon = time.monotonic(), own.daemon_pid
    own.kill_daemon()
    waiting.eventually(
        lambda: (
            # Of what they were given before, the daemon of before told them.
            own.daemon_pid not in (0, daemon)
            and len(_limits(control)) == 2
            and _last(place, "large") == (4096, 30)
        ),
        what="the limits are set again",
    )
    print(f"\nfrom the daemon's death to limits in a container: {time.monotonic() - began:.1f} s")  # noqa: T201
    _wait_limits(control, *BOTH)
    waiting.eventually(lambda: _last(place, "small") == (1500, 20), what="small is limited")
    assert all(one.get("memoryMiB") in (None, 4096) for one in _given(place, "large"))
    pod_now = place.pod("large")
    assert pod_now["status"]["containerStatuses"][0]["restartCount"] == 0


def test_the_daemons_pod_goes_and_its_successor_sets_the_limits_again(
    own: WithMps, place: Space, control: Control
) -> None:
    (before,) = own.api.list(PODS, namespace=own.namespace, labelSelector="app.kubernetes.io/component=mps")
    daemon = own.daemon_pid
    own.kill_pod(before["metadata"]["name"])
    waiting.eventually(
        lambda: (
            # As long as the pod of before has its grace, its daemon answers.
            own.daemon_pid not in (0, daemon)
            and len(_limits(control)) == 2
            and [one["metadata"]["uid"] for one in own._pods("mps")] != [before["metadata"]["uid"]]
        ),
        what="the limits are set again by another pod",
    )
    waiting.eventually(lambda: _last(place, "small") == (1500, 20), what="small is limited")


def test_a_daemon_that_does_not_come_back_is_told_by_the_claim_and_its_pod_and_so_is_its_return(
    own: WithMps, place: Space, control: Control
) -> None:
    claim = place.claim_of("large")["metadata"]["name"]
    own.behave(start="fail")
    own.kill_daemon()
    told = place.wait_claim(
        claim,
        lambda one: c if (c := _in_force(one)) and c["reason"] == "LimitsLost" else {},
        what="tells that its limits are lost",
    )
    assert told["status"] == "False"
    assert "may have the whole card" in place.event("large", reason="LimitsLost")
    waiting.eventually(
        lambda: "dragoman_agent_mps_shares_lost 2.0" in own.agent_get("/metrics"), what="both are counted"
    )
    own.behave()
    place.wait_claim(
        claim,
        lambda one: (c := _in_force(one)) is not None and c["reason"] != "LimitsLost",
        what="tells that its limits are there again",
    )
    place.event("large", reason="LimitsRestored")
    _wait_limits(control, *BOTH)


def test_the_agent_goes_and_comes_back_and_no_limit_moves(
    own: WithMps, place: Space, control: Control
) -> None:
    before = len(_given(place, "large"))
    own.restart_agent_softly()
    own.wait_ready()
    _wait_limits(control, *BOTH)
    assert len(_given(place, "large")) == before


def test_a_container_that_would_get_two_shares_is_refused_by_name(own: WithMps, place: Space) -> None:
    both = [request("a", memory="1Gi", cel=on(CARD)), request("b", memory="1Gi", cel=on(cards.NVIDIA_40))]
    place.create(*sharing("two", *both))
    assert "joins one share of MPS" in place.event("two", reason="OneMpsShare")
    place.delete("two")


def test_a_pod_that_goes_takes_its_namespace_along_and_nobody_elses(
    own: WithMps, place: Space, control: Control
) -> None:
    place.delete("large")
    _wait_limits(control, ("1500M", "20"))
    assert _last(place, "small") == (1500, 20)
    gone = place.close()
    own.expect_nothing_left(gone)
    waiting.eventually(
        lambda: not [*_limits(control), *(own.mps_dir / "shares").iterdir()],
        what="nothing of MPS is left",
    )
    waiting.eventually(lambda: not (own.mps_dir / "daemon.json").exists(), what="the daemon is gone")
