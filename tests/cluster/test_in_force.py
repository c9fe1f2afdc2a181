"""Whether limits hold, seen from outside of the containers, on a running cluster of this file's own.

Flow: the stub preload library is HAMi-core's contract and region without CUDA -> pods of the probe, good
and bad -> the condition `InForce` of their claims, Events, metrics. Then combinations of claims,
requests, containers and orders of cards that hypothesis makes, against a real scheduler, kubelet and
containerd: a sample of them, and all 200 with --long.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from driver.isolation import region as layout
from driver.isolation.region import RegionNotReadyError, read_region
from driver.kube.resources import ACCELERATOR_POLICIES
from kubelet_plugin.host import NodeHost
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.cards import SimulatedCard, on
from tests.cluster.support.combinations import Combination, generate
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import container, request, share_config, sharing
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.space import Space, open_space
from tests.native import build as native
from tooling.oci import ImageConfig, Layer, write_image

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.timeout(3600)]

ODD = "localhost/dragoman-probe-odd:1"
SAMPLE = 12
ALL = 200
AT_ONCE = 8
SEED = 20261121

# In the order of their UUIDs, of their PCI addresses and of the agent's file they are three different rows.
CARDS = tuple(
    SimulatedCard(
        vendor="nvidia",
        model="NVIDIA A100-SXM4-80GB",
        memory_gib=80,
        uuid=f"GPU-{number}0000000-0000-4000-8000-000000000080",
        pci=pci,
        architecture="Ampere",
    )
    for number, pci in enumerate(("0000:86:00.0", "0000:3b:00.0", "0000:c1:00.0", "0000:1a:00.0"))
)


class FourCards(Installation):
    """An installation with four cards of one vendor, in a given order."""

    order: Sequence[SimulatedCard] = CARDS

    @property
    def devices(self) -> list[str]:
        """Names of all cards, sorted."""
        return sorted(card.device for card in CARDS)

    def values(self, *, image: str = "") -> JSON:
        """The chart's values."""
        found = super().values(image=image)
        found["simulated"] = {"cards": [card.entry() for card in self.order]}
        found["inForce"] = {"deadline": 6}
        return found


def _odd_image(tar: Path, *, scratch: Path) -> None:
    """The probe's image with programs that the library does not reach, and some that it does."""
    files: dict[str, Path | bytes] = {
        **native.probe_rootfs(),
        "/probe-static": native.static_probe(),
        "/probe-setuid": native.probe(),
        "/empty.so": native.empty_library(),
    }
    modes = {"/probe": 0o755, "/probe-static": 0o755, "/probe-setuid": 0o4755, "/probe-musl": 0o755}
    musl = shutil.which("musl-gcc")
    if musl:
        source = native.SOURCES / "probe.c"
        subprocess.run([musl, "-O1", "-std=gnu11", "-o", scratch / "probe-musl", source], check=True)
        loader = Path("/lib/ld-musl-x86_64.so.1")
        files |= {"/probe-musl": scratch / "probe-musl", str(loader): loader.resolve()}
        modes[str(loader)] = 0o755
    layer = Layer.from_files(
        files, modes={name: mode for name, mode in modes.items() if name in files}, directories=["tmp", "etc"]
    )
    write_image(out=tar, name=ODD, layers=[layer], config=ImageConfig(entrypoint=["/probe"]))


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FourCards]:
    scratch = tmp_path_factory.mktemp("odd")
    with bare_cluster(purpose="in-force", version=kubernetes_version) as target:
        images.load(target)
        _odd_image(scratch / "odd.tar", scratch=scratch)
        assert target.own is not None
        target.own.load_image(scratch / "odd.tar")
        installed = FourCards(target, images=images)
        installed.install()
        installed.wait_ready()
        yield installed


@pytest.fixture(scope="module")
def place(own: FourCards) -> Space:
    return open_space(own.target.api, "in-force")


def _env(**variables: str) -> list[JSON]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _start(place: Space, name: str, *, card: int = 0, cores: str | None = "10", **of_container: Any) -> None:
    wanted = request(memory="2Gi", cores=cores, cel=on(CARDS[card]))
    template, pod = sharing(name, wanted)
    pod["spec"]["containers"] = [container("app", "card", **of_container)]
    place.create(template, pod)
    place.running(name)


def _conditions(claim: JSON) -> dict[str, JSON]:
    """The condition InForce of each device."""
    return {
        str(entry["device"]): condition
        for entry in claim["status"].get("devices") or []
        for condition in entry.get("conditions") or []
        if condition["type"] == "InForce"
    }


def _wait_said(place: Space, pod: str, *, reason: str) -> JSON:
    """Waits until the pod's one claim says this about its limits."""
    name = place.claim_of(pod)["metadata"]["name"]

    def said(claim: JSON) -> JSON:
        return next((one for one in _conditions(claim).values() if one["reason"] == reason), {})

    return place.wait_claim(name, said, what=f"says {reason}")


def _series(own: FourCards, name: str, **labels: str) -> list[float]:
    """Values of the agent's series with these labels."""
    found = []
    for line in own.agent_get("/metrics").splitlines():
        match = re.fullmatch(rf"dragoman_agent_{name}{{(.*)}} (\S+)", line)
        if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
            found.append(float(match[2]))
    return found


def _wait_series(own: FourCards, name: str, values: list[float], **labels: str) -> None:
    """Waits until the agent's series with these labels have these values: each round posts them anew."""
    waiting.eventually(
        lambda: _series(own, name, **labels) == values, what=f"{name} of {labels or 'all'} is {values}"
    )


def _region_path(own: FourCards, place: Space, pod: str) -> PurePosixPath:
    uid = place.claim_of(pod)["metadata"]["uid"]
    return own.share_dir / str(uid) / "card" / "region" / "shared.cache"


def test_limits_are_seen_in_force_and_what_is_used_is_told(own: FourCards, place: Space) -> None:
    began = time.monotonic()
    _start(place, "good", env=_env(DRAGOMAN_STUB_USE_0="1073741824 7"))
    said = _wait_said(place, "good", reason="Seen")
    print(f"\nfrom the pod to its limits seen in force: {time.monotonic() - began:.1f} s")  # noqa: T201
    assert said["status"] == "True"
    assert said["message"] == "Seen in force by preload: 2048 MiB of memory and 10 percent of compute."
    claim = place.claim_of("good")["metadata"]["name"]
    where = {
        "namespace": place.name,
        "pod": "good",
        "container": "app",
        "claim": claim,
        "device": CARDS[0].device,
    }
    _wait_series(own, "share_memory_used_bytes", [float(1 << 30)], **where)
    assert _series(own, "share_memory_limit_bytes", **where) == [float(2 << 30)]
    _wait_series(own, "share_compute_used_percent", [7.0], **where)
    assert _series(own, "share_compute_limit_percent", **where) == [10.0]
    assert _series(own, "share_processes", **where) == [1.0]
    assert _series(own, "shares_in_force", in_force="yes") == [1.0]


def test_a_claim_whose_limits_are_in_force_is_not_written_again(own: FourCards, place: Space) -> None:
    before = place.claim_of("good")["metadata"]["resourceVersion"]
    time.sleep(12)
    assert place.claim_of("good")["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("setuid", {"image": ODD, "command": ["/probe-setuid"]}),
        ("setuid-user", {"image": ODD, "command": ["/probe-setuid"], "securityContext": {"runAsUser": 1234}}),
        ("user", {"securityContext": {"runAsUser": 1234, "runAsGroup": 5678}}),
        ("ld-preload", {"image": ODD, "env": _env(LD_PRELOAD="/empty.so")}),
        ("disable-control", {"env": _env(CUDA_DISABLE_CONTROL="true")}),
        ("other-limits", {"env": _env(CUDA_DEVICE_MEMORY_LIMIT_0="64g", CUDA_DEVICE_SM_LIMIT_0="100")}),
    ],
)
def test_what_users_try_does_not_defeat_the_library(place: Space, name: str, what: Mapping[str, Any]) -> None:
    _start(place, name, **what)
    _wait_said(place, name, reason="Seen")
    place.delete(name)


def test_a_program_that_has_not_used_its_card_is_not_known_and_no_failure(
    own: FourCards, place: Space
) -> None:
    _start(place, "idle", env=_env(DRAGOMAN_PROBE="waits", DRAGOMAN_STUB="lazy"))
    said = _wait_said(place, "idle", reason="CardNotUsedYet")
    assert said["status"] == "Unknown"
    assert _series(own, "in_force_failures_total") == []
    pod_uid = place.pod("idle")["metadata"]["uid"]
    (pid,) = own.own_node.container_pids(pod_uid=pod_uid, container="app")
    own.own_node.run("kill", "-USR1", str(pid))
    _wait_said(place, "idle", reason="Seen")
    place.delete("idle")


def _bad() -> list[tuple[str, str, dict[str, Any]]]:
    found: list[tuple[str, str, dict[str, Any]]] = [
        ("static", "StaticBinary", {"image": ODD, "command": ["/probe-static"]})
    ]
    if shutil.which("musl-gcc"):
        found.append(("musl", "MuslLibc", {"image": ODD, "command": ["/probe-musl"]}))
    return found


@pytest.mark.parametrize(
    ("name", "reason", "what"), _bad(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_program_that_the_library_does_not_reach_is_told_on_claim_pod_and_metrics(
    own: FourCards, place: Space, name: str, reason: str, what: Mapping[str, Any]
) -> None:
    _start(place, name, **what)
    said = _wait_said(place, name, reason=reason)
    assert said["status"] == "False"
    assert "(container app)" in said["message"]
    told = place.event(name, reason, reason="LimitNotInForce")
    assert "are not in force in container app" in told
    assert _series(own, "in_force_failures_total", reason=reason) == [1.0]
    place.delete(name)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("damaged", b"\x7fELF, or so it seems", "LibraryNotLoaded"),
        ("empty", None, "RegionMissing"),
    ],
)
def test_a_wrong_library_on_the_node_is_found(
    own: FourCards, place: Space, name: str, content: bytes | None, reason: str
) -> None:
    folder = own._below("preload", default="")
    (installed,) = [one for one in own.target.node.list_files(folder) if one.startswith("libvgpu-")]
    path = folder / installed
    right = own.target.node.read_file(path)

    def put(library: bytes) -> None:
        # Beside, and renamed: what running containers have mapped may not be written into.
        own.target.node.write_file(folder / "other.so", library)
        own.target.node.run("chmod", "755", str(folder / "other.so"))
        own.target.node.run("mv", str(folder / "other.so"), str(path))

    put(native.empty_library().read_bytes() if content is None else content)
    try:
        _start(place, name)
        assert _wait_said(place, name, reason=reason)["status"] == "False"
        place.event(name, reason, reason="LimitNotInForce")
    finally:
        put(right)
    place.delete(name)


@pytest.mark.parametrize(
    ("name", "written", "reason"),
    [
        ("more-memory", (layout.LIMITS, (64 << 30).to_bytes(8, "little")), "RegionLimitsDiffer"),
        ("no-cap", (layout.SM_LIMITS, (100).to_bytes(8, "little")), "RegionLimitsDiffer"),
        ("garbage", (0, b"garbage!" * 300), "RegionUnreadable"),
    ],
)
def test_a_region_that_a_container_has_written_over_is_found(
    own: FourCards, place: Space, name: str, written: tuple[int, bytes], reason: str
) -> None:
    _start(place, name)
    _wait_said(place, name, reason="Seen")
    path = _region_path(own, place, name)
    NodeHost().write_part(str(path), written[1], offset=written[0])
    assert _wait_said(place, name, reason=reason)["status"] == "False"
    place.delete(name)


def test_what_was_told_survives_a_restart_of_the_agent(own: FourCards, place: Space) -> None:
    before = place.claim_of("good")
    own.restart_agent_softly()
    own.wait_ready()
    waiting.eventually(
        lambda: _series(own, "shares_in_force", in_force="yes") == [1.0],
        what="limits are seen again",
    )
    assert _conditions(place.claim_of("good")) == _conditions(before)


def test_series_and_conditions_go_with_the_claim(own: FourCards, place: Space) -> None:
    _wait_series(own, "share_processes", [1.0], pod="good")
    place.delete("good")
    waiting.eventually(
        lambda: not _series(own, "share_processes"), what="the series of what is used are gone"
    )
    _wait_series(own, "shares_in_force", [0.0, 0.0, 0.0])


def test_who_lets_go_of_the_cap_has_none_while_nobody_else_computes_on_the_card(
    own: FourCards, place: Space
) -> None:
    def starts(name: str, *, policy: str, mode: str) -> None:
        wanted = request(memory="2Gi", cores="10", cel=on(CARDS[1]))
        made, pod = sharing(name, wanted, config=[share_config(corePolicy=policy)])
        env = _env(DRAGOMAN_PROBE=mode, DRAGOMAN_STUB="lazy")
        pod["spec"]["containers"] = [container("app", "card", env=env)]
        place.create(made, pod)
        place.running(name)

    def switch(name: str) -> int | None:
        try:
            return read_region(str(_region_path(own, place, name)), host=NodeHost()).utilization_switch
        except (FileNotFoundError, RegionNotReadyError):
            # The program has not come to its first kernel.
            return None

    starts("gentle", policy="default", mode="busy")
    waiting.eventually(lambda: switch("gentle") == 0, what="the cap of who is alone is off")
    starts("neighbour", policy="force", mode="busy")
    waiting.eventually(lambda: switch("gentle") == 1, what="the cap is on beside a neighbour")
    waiting.eventually(lambda: switch("neighbour") == 1, what="so is that of who never lets go of it")
    place.delete("neighbour")
    waiting.eventually(lambda: switch("gentle") == 0, what="the cap is off again")
    own.patch_agent_selector({"dragoman.dev/nowhere": "true"})
    waiting.eventually(lambda: switch("gentle") == 1, what="the cap is given back without an agent")
    own.patch_agent_selector({"dragoman.dev/nowhere": None})
    own.wait_ready()
    place.delete("gentle")


class _Race:
    """Two pods with shares of one card, of which one goes first, and the kernels that they launch."""

    def __init__(self, own: FourCards, place: Space) -> None:
        self.own = own
        self.place = place

    def policy(self, **spec: Any) -> None:
        body = {"kind": "AcceleratorPolicy", "metadata": {"name": "test-priority"}, "spec": spec}
        self.own.api.apply({"apiVersion": "dragoman.dev/v1alpha1", **body})

    def starts(self, name: str, **config: str) -> None:
        wanted = request(memory="2Gi", cores="10", cel=on(CARDS[2]))
        made, pod = sharing(name, wanted, config=[share_config(**config)] if config else [])
        env = _env(DRAGOMAN_PROBE="busy", DRAGOMAN_STUB="lazy")
        pod["spec"] |= {"containers": [container("app", "card", env=env)], "terminationGracePeriodSeconds": 2}
        self.place.create(made, pod)
        self.place.running(name)

    def launches(self, name: str) -> int:
        path = str(_region_path(self.own, self.place, name))
        try:
            return int.from_bytes(NodeHost().read_part(path, offset=layout.TAIL - 8, length=8), "little")
        except FileNotFoundError:
            # Nothing was launched so far.
            return 0

    def pid(self, name: str) -> int:
        uid = self.place.pod(name)["metadata"]["uid"]
        (pid,) = self.own.own_node.container_pids(pod_uid=uid, container="app")
        return pid

    def stops(self, name: str, *, seconds: float = waiting.PATIENCE_S) -> float:
        """Waits until one that launches each second has launched nothing for three; how long that took."""
        began = since = time.monotonic()
        before = self.launches(name)
        while time.monotonic() - since < 3:
            assert time.monotonic() - began < seconds, f"{name} launches on"
            time.sleep(0.1)
            now = self.launches(name)
            before, since = now, since if now == before else time.monotonic()
        return since - began

    def goes_on(self, name: str) -> float:
        """Waits until it launches; how long that took."""
        began, before = time.monotonic(), self.launches(name)
        waiting.eventually(lambda: self.launches(name) > before + 1, what=f"{name} launches again")
        return time.monotonic() - began

    def says(self, name: str) -> tuple[str, str]:
        """Status and reason of the condition Priority of a pod's claim."""
        return next(
            (
                (condition["status"], condition["reason"])
                for entry in self.place.claim_of(name)["status"].get("devices") or []
                for condition in entry.get("conditions") or []
                if condition["type"] == "Priority"
            ),
            ("", ""),
        )


@pytest.fixture(scope="module")
def race(own: FourCards, place: Space) -> Iterator[_Race]:
    found = _Race(own, place)
    found.starts("low")
    found.starts("high", priority="high")
    yield found
    own.api.delete(ACCELERATOR_POLICIES, "test-priority")
    for name in ("low", "high"):
        place.delete(name)


def test_a_share_that_says_that_it_goes_first_does_not_unless_a_policy_allows_it(race: _Race) -> None:
    waiting.eventually(lambda: race.says("high") == ("False", "NotAllowed"), what="the claim says so")
    assert race.says("low") == ("", "")
    with pytest.raises(AssertionError, match="launches on"):
        race.stops("low", seconds=12)


def test_one_of_low_priority_stops_while_one_of_high_priority_computes_and_goes_on_after(
    own: FourCards, place: Space, race: _Race
) -> None:
    race.policy(allowHighPriority=True, lowPriorityPercent=0)
    took = race.stops("low")
    print(f"\nfrom the policy to the last launch of low priority: {took:.1f} s")  # noqa: T201
    before = race.launches("high")
    waiting.eventually(lambda: race.launches("high") > before, what="the other one computes on")
    waiting.eventually(lambda: _series(own, "share_waiting", pod="low") == [1.0], what="it is told")
    assert _series(own, "share_waiting", pod="high") == [0.0]
    waiting.eventually(lambda: race.says("high") == ("True", "GoesFirst"), what="the claim says so")
    own.own_node.signal(race.pid("high"), signal.SIGSTOP)
    print(f"from the end of the other to the second launch: {race.goes_on('low'):.1f} s")  # noqa: T201
    race.starts("brief", priority="high")
    print(f"from another's start to the last launch: {race.stops('low'):.1f} s")  # noqa: T201
    place.delete("brief")
    race.goes_on("low")
    own.own_node.signal(race.pid("high"), signal.SIGCONT)
    race.stops("low")


def test_who_waits_has_a_part_of_the_time_however_busy_the_other_is(race: _Race) -> None:
    race.policy(allowHighPriority=True, lowPriorityPercent=50)
    for _ in range(2):
        race.goes_on("low")
        race.stops("low")
    race.policy(allowHighPriority=True, lowPriorityPercent=0)


def test_who_waits_goes_on_when_no_policy_allows_it_any_more(own: FourCards, race: _Race) -> None:
    race.stops("low")
    own.api.delete(ACCELERATOR_POLICIES, "test-priority")
    print(f"\nfrom the policy's end to the second launch: {race.goes_on('low'):.1f} s")  # noqa: T201
    waiting.eventually(lambda: race.says("high") == ("False", "NotAllowed"), what="the claim says so")


def test_an_agent_that_is_killed_leaves_nobody_waiting_once_its_successor_runs(
    own: FourCards, race: _Race
) -> None:
    race.policy(allowHighPriority=True, lowPriorityPercent=0)
    race.stops("low")
    agent = own.agent()
    (pid, *_) = own.own_node.container_pids(pod_uid=agent["metadata"]["uid"], container=own.agent_container)
    # So that nobody is made to wait again, and what the successor does at its start is seen.
    own.own_node.signal(race.pid("high"), signal.SIGSTOP)
    own.own_node.signal(pid, signal.SIGKILL)
    try:
        took = race.goes_on("low")
        print(f"\nfrom the agent's end to the second launch: {took:.1f} s")  # noqa: T201
        restarts = agent["status"]["containerStatuses"][0]["restartCount"]
        own.wait_agent(lambda one: one["status"]["containerStatuses"][0]["restartCount"] > restarts)
        said = own.target.must("kubectl", "logs", agent["metadata"]["name"], "--namespace", own.namespace)
        assert "shares waited for an agent that was killed" in said
    finally:
        own.own_node.signal(race.pid("high"), signal.SIGCONT)


def test_nobody_waits_without_an_agent(own: FourCards, race: _Race) -> None:
    race.stops("low")
    own.patch_agent_selector({"dragoman.dev/nowhere": "true"})
    try:
        print(f"\nfrom the agent's leave to the second launch: {race.goes_on('low'):.1f} s")  # noqa: T201
        before = race.launches("low")
        waiting.eventually(lambda: race.launches("low") > before + 10, what="it goes on for good")
    finally:
        own.patch_agent_selector({"dragoman.dev/nowhere": None})
        own.wait_ready()
    race.stops("low")


def _look_at(place: Space, pod: str, one: Combination) -> None:
    for name, expected in one.expected(among=CARDS).items():
        seen = place.seen(pod, container=name)
        assert seen.library, f"{pod}/{name}: {one}"
        assert seen.limits == expected, f"{pod}/{name}: {one}"
        mounted = seen.mount("/usr/local/dragoman/libvgpu.so")
        assert mounted is not None, f"{pod}/{name}: {one}"
        assert "ro" in mounted["options"].split(","), f"{pod}/{name}: {one}"


def _wait_running(place: Space, batch: Mapping[str, Combination]) -> None:
    """Waits for the pods; those are made anew of whose claims the control plane lost some names.

    Before 1.37 kube-controller-manager can leave a pod that has several claims with the names of some of them
    (kubernetes/kubernetes#138407): seen in one of about 30 batches while other clusters came and went.
    """
    for _ in range(3):
        try:
            place.running(*batch, seconds=60)
        except waiting.Waited:
            lost = [name for name in batch if _names_are_lost(place, name)]
            place.delete(*lost)
            for name in lost:
                place.create(*(one for one in batch[name].objects(name, among=CARDS) if one["kind"] == "Pod"))
        else:
            return
    place.running(*batch)


def _names_are_lost(place: Space, name: str) -> bool:
    pod = place.pod(name)
    named = {one["resourceClaimName"] for one in pod["status"].get("resourceClaimStatuses") or []}
    made = {
        one["metadata"]["name"]
        for one in place.claims()
        if any(
            owner["uid"] == pod["metadata"]["uid"] for owner in one["metadata"].get("ownerReferences") or []
        )
    }
    return waiting.running(pod) is None and bool(made - named)


@pytest.mark.parametrize("order", ["as-listed", "reversed"])
def test_in_each_combination_the_right_limit_is_at_the_right_index_for_the_right_card(
    own: FourCards, order: str, request: pytest.FixtureRequest
) -> None:
    own.order = CARDS if order == "as-listed" else tuple(reversed(CARDS))
    own.install()
    own.wait_ready()
    everything = generate(ALL, of_cards=len(CARDS), with_seed=SEED)
    chosen = everything if request.config.getoption("--long") else everything[:: ALL // SAMPLE]
    # Each order of the agent's file gets the other half.
    mine = chosen[(order != "as-listed") :: 2]
    for first in range(0, len(mine), AT_ONCE):
        space = open_space(own.target.api, f"combinations-{first}")
        # What is known as a test's argument is described if it fails.
        request.node.funcargs["space"] = space
        batch = {f"p{first + number}": one for number, one in enumerate(mine[first : first + AT_ONCE])}
        for name, one in batch.items():
            space.create(*one.objects(name, among=CARDS))
        _wait_running(space, batch)
        for name, one in batch.items():
            _look_at(space, name, one)
        for claim in space.claims():
            space.wait_claim(
                claim["metadata"]["name"],
                lambda found: (
                    found
                    if {c["status"] for c in _conditions(found).values()} == {"True"}
                    and len(_conditions(found)) == len({d["device"] for d in found["status"]["devices"]})
                    else {}
                ),
                what="says that all its limits are in force",
            )
        space.delete(*batch)
        own.expect_nothing_left(space.close())
        done = min(first + AT_ONCE, len(mine))
        print(f"\n{done} of {len(mine)} combinations, cards {order}", flush=True)  # noqa: T201 - a figure
