from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits, Mount
from driver.errors import IsolationError
from driver.isolation.base import ShareContext
from driver.isolation.choose import Chosen, edits_for
from driver.isolation.preload_seen import MAX_MAPS_BYTES
from driver.isolation.service import (
    CONTAINER_PIPE_DIR,
    MpsClient,
    MpsState,
    MpsTooOldError,
    MpsUnavailableError,
    Service,
)
from driver.isolation.service_shares import MpsShare, namespace_name, server_name
from driver.shares import Share
from tests.support.memory_host import MemoryHost

CARD = Card(
    name="nvidia-0",
    vendor="nvidia",
    model="Test",
    memory_bytes=24 << 30,
    uuid="GPU-0",
    driver_version="615.71.09",
)
SHARE = Share(
    claim_uid="0f0e", request="gpu", device="nvidia-0", share_id="a", memory_mib=4096, cores_percent=30
)
NAME = namespace_name(SHARE)
SERVER = server_name("GPU-0")
PID = 51023


class Mps:
    """MPS that remembers what it was asked, and says what a test wants."""

    def __init__(self) -> None:
        self.wanted: dict[str, MpsShare] = {}
        self.unheld: dict[str, str] = {}
        self.problem = ""
        self.clients: list[MpsClient] = []
        self.fresh: list[bool] = []

    def put(self, share: MpsShare) -> None:
        self.wanted[share.name] = share

    def drop(self, claim_uid: str, name: str) -> None:
        self.wanted.pop(name, None)

    def drop_claim(self, claim_uid: str) -> None:
        self.wanted = {name: one for name, one in self.wanted.items() if one.claim_uid != claim_uid}

    def claims(self) -> frozenset[str]:
        return frozenset(one.claim_uid for one in self.wanted.values())

    def state(self, *, fresh: bool = True) -> MpsState:
        self.fresh.append(fresh)
        held = {name: f"/run/dragoman-mps/pipe/x/{name}" for name in self.wanted if name not in self.unheld}
        return MpsState(problem=self.problem, unheld=self.unheld, folders=held, clients=tuple(self.clients))


@pytest.fixture
def mps() -> Mps:
    return Mps()


def context(**changes: object) -> ShareContext:
    given = ShareContext(
        card=CARD, index=0, core_policy="force", claim_uid="0f0e", holds_memory=True, holds_cores=True
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def host(maps: str | None = None) -> MemoryHost:
    return MemoryHost({} if maps is None else {f"/proc/{PID}/maps": maps})


def test_it_is_the_method_service(mps: Mps) -> None:
    assert Service(mps).level is IsolationLevel.SERVICE


def test_it_holds_compute_and_memory_only_where_a_limit_of_each_process_is_good_enough(mps: Mps) -> None:
    found = Service(mps).available(card=CARD, host=host())
    assert (found.memory, found.cores) == (False, True)
    assert "each process" in found.reason
    assert "mps.memory" in found.remedy
    asked = Service(mps, holds_memory=True).available(card=CARD, host=host())
    assert (asked.memory, asked.cores) == (True, True)


@pytest.mark.parametrize("version", ["614.99", "575.51.03", "", "unknown", "\uff16\uff11\uff15"])
def test_a_driver_without_mps_v3_is_refused_by_name(mps: Mps, version: str) -> None:
    found = Service(mps, holds_memory=True).available(card=replace(CARD, driver_version=version), host=host())
    assert (found.memory, found.cores, found.refusal) == (False, False, MpsTooOldError)
    assert "615" in found.reason


@pytest.mark.parametrize("changes", [{"vendor": "amd"}, {"uuid": "MIG-1"}, {"uuid": ""}])
def test_only_whole_cards_of_nvidia_are_held(mps: Mps, changes: dict[str, Any]) -> None:
    found = Service(mps, holds_memory=True).available(card=replace(CARD, **changes), host=host())
    assert (found.memory, found.cores) == (False, False)


def test_a_container_gets_its_shares_socket_read_only_where_its_variable_leads_to(mps: Mps) -> None:
    edits = Service(mps, holds_memory=True).edits(SHARE, context=context(), host=host())
    assert edits == ContainerEdits(
        env={"CUDA_MPS_PIPE_DIRECTORY": CONTAINER_PIPE_DIR},
        mounts=(Mount(host_path=f"/run/dragoman-mps/pipe/x/{NAME}", container_path=CONTAINER_PIPE_DIR),),
    )
    assert "ro" in edits.mounts[0].options
    wanted = mps.wanted[NAME]
    assert (wanted.memory_mib, wanted.cores_percent, wanted.card, wanted.server) == (
        4096,
        30,
        "GPU-0",
        SERVER,
    )
    assert mps.fresh == [True]


def test_memory_is_limited_also_where_another_method_holds_it(mps: Mps) -> None:
    Service(mps).edits(SHARE, context=context(holds_memory=False), host=host())
    assert mps.wanted[NAME].memory_mib == 4096


def test_a_share_that_it_holds_nothing_of_wants_nothing(mps: Mps) -> None:
    service = Service(mps)
    nothing = context(holds_memory=False, holds_cores=False)
    assert service.edits(SHARE, context=nothing, host=host()) == ContainerEdits()
    assert service.in_force(SHARE, context=nothing, host=host(), pid=PID).holds
    assert mps.wanted == {}


def test_a_share_is_refused_until_the_daemon_itself_says_that_it_holds_it(mps: Mps) -> None:
    mps.unheld[NAME] = "Its MPS server is Failed."
    with pytest.raises(MpsUnavailableError, match="Its MPS server is Failed") as seen:
        Service(mps).edits(SHARE, context=context(), host=host())
    assert seen.value.retriable
    assert mps.wanted.keys() == {NAME}


def test_a_daemon_that_is_away_refuses_for_now_and_no_weaker_method_is_taken(mps: Mps) -> None:
    mps.problem = "The supervisor of MPS on this node does not answer."
    assert Service(mps).available(card=CARD, host=host()).cores
    with pytest.raises(MpsUnavailableError, match="does not answer"):
        Service(mps).edits(SHARE, context=context(), host=host())


def test_a_driver_that_was_replaced_by_an_older_one_refuses(mps: Mps) -> None:
    older = context(card=replace(CARD, driver_version="575.1"))
    with pytest.raises(MpsTooOldError):
        Service(mps).edits(SHARE, context=older, host=host())
    assert mps.wanted == {}


def test_undo_gives_back_one_share_or_all_of_a_claim(mps: Mps) -> None:
    service = Service(mps)
    other = replace(SHARE, request="other")
    service.edits(SHARE, context=context(), host=host())
    service.edits(other, context=context(), host=host())
    assert service.claims(host=host()) == {"0f0e"}
    service.undo(SHARE, context=None, host=host())
    assert mps.wanted.keys() == {namespace_name(other)}
    service.undo_claim("0f0e", host=host())
    service.undo_claim("0f0e", host=host())
    assert service.claims(host=host()) == frozenset()


def _connected(mps: Mps, *pids: int, namespace: str = NAME, server: str = SERVER) -> Service:
    service = Service(mps)
    service.edits(SHARE, context=context(), host=host())
    mps.clients = [MpsClient(pid=pid, server=server, namespace=namespace) for pid in pids]
    return service


def test_a_process_that_the_daemon_lists_in_the_shares_namespace_is_limited(mps: Mps) -> None:
    assert _connected(mps, PID).in_force(SHARE, context=context(), host=host(), pid=PID).holds
    assert mps.fresh[-1] is False


def test_a_second_process_has_a_budget_of_its_own_and_that_is_said(mps: Mps) -> None:
    found = _connected(mps, PID, 7).in_force(SHARE, context=context(), host=host(), pid=PID)
    assert (found.holds, found.known, found.reason) == (False, True, "SeveralMpsProcesses")


@pytest.mark.parametrize(("namespace", "server"), [("other", SERVER), ("default", SERVER), (NAME, "other")])
def test_a_process_in_another_namespace_is_not_limited_by_the_share(
    mps: Mps, namespace: str, server: str
) -> None:
    service = _connected(mps, PID, namespace=namespace, server=server)
    found = service.in_force(SHARE, context=context(), host=host("7f00 /usr/lib/libcuda.so.1\n"), pid=PID)
    assert (found.holds, found.known, found.reason) == (False, True, "NoMpsClient")


def test_a_process_with_cuda_that_is_no_client_has_the_whole_card_and_that_is_said(mps: Mps) -> None:
    found = _connected(mps).in_force(
        SHARE, context=context(), host=host("7f00 /usr/lib/libcuda.so.615.71.09\n"), pid=PID
    )
    assert (found.holds, found.known, found.reason) == (False, True, "NoMpsClient")
    assert "CUDA_MPS_PIPE_DIRECTORY" in found.remedy


def test_of_a_process_with_more_mappings_than_are_read_nobody_can_tell_whether_it_has_cuda(mps: Mps) -> None:
    many = "7f00 /a/file\n" * (MAX_MAPS_BYTES // 10 + 1)
    found = _connected(mps).in_force(SHARE, context=context(), host=host(many), pid=PID)
    assert (found.holds, found.known, found.reason) == (False, False, "ProcessTooLarge")


@pytest.mark.parametrize("maps", ["7f00 /usr/bin/sh\n", "7f00 /usr/lib/libnvidia-ml.so.1\n", None])
def test_of_a_process_without_cuda_nothing_is_said(mps: Mps, maps: str | None) -> None:
    found = _connected(mps).in_force(SHARE, context=context(), host=host(maps), pid=PID)
    assert (found.known, found.reason) == (False, "CardNotUsedYet")


def test_limits_that_the_daemon_lost_are_not_in_force_whoever_is_connected(mps: Mps) -> None:
    service = _connected(mps, PID)
    mps.unheld[NAME] = "The MPS daemon did not make the share's namespace."
    found = service.in_force(SHARE, context=context(), host=host(), pid=PID)
    assert (found.holds, found.known, found.reason) == (False, True, "LimitsLost")


def test_what_the_daemon_never_mentions_is_not_held() -> None:
    assert MpsState().why_not("n") == "The MPS daemon does not know this share."


def test_a_method_that_was_taken_away_from_under_a_prepared_share_is_a_refusal_and_no_bug() -> None:
    chosen = Chosen(memory=None, cores=IsolationLevel.SERVICE)
    with pytest.raises(IsolationError, match="held by service, which this agent does not have"):
        edits_for(
            SHARE, card=CARD, chosen=chosen, index=0, core_policy="force", methods={}, host=MemoryHost({})
        )


def test_errors_are_those_of_isolation() -> None:
    assert issubclass(MpsTooOldError, IsolationError)
    assert issubclass(MpsUnavailableError, IsolationError)
