"""Whether kube-scheduler can allocate shares, and what is said if not."""

import asyncio
import copy
from typing import Any

import pytest

from controller.mode import NOT_ASKED, ModeState, ModeWatch, Verdict, probe
from driver.kube.client import ApiError, ForbiddenError, UnreachableError
from driver.slices import DroppedField
from tests.support.scripted_api import Request, scripted_client

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def server(minor: str = "36", *, drop: bool = False, major: str = "1") -> Any:
    """Answers of an API server of this version, with its sharing gate off if `drop`."""

    def answer(request: Request) -> Any:
        if request.path == "/version":
            return {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0"}
        assert request.query == {"dryRun": "All"}
        stored = copy.deepcopy(request.body)
        stored["metadata"]["uid"] = "u"
        if drop and "resourceslices" in request.path:
            del stored["spec"]["devices"][0]["allowMultipleAllocations"]
        if drop and "resourceclaims" in request.path:
            del stored["spec"]["devices"]["requests"][0]["exactly"]["capacity"]
        return stored

    return answer


async def ask(answer: Any) -> ModeState:
    return await probe(scripted_client(answer)[0], namespace="dragoman")


async def test_a_server_of_136_that_keeps_all_fields_can() -> None:
    assert await ask(server()) == ModeState(verdict=Verdict.POSSIBLE, release="1.36")


async def test_nothing_but_dry_runs_is_sent() -> None:
    client, transport = scripted_client(server())
    await probe(client, namespace="dragoman")
    assert transport.writes() == []
    assert {request.path for request in transport.requests} == {
        "/version",
        "/apis/resource.k8s.io/v1/resourceslices",
        "/apis/resource.k8s.io/v1/namespaces/dragoman/resourceclaims",
    }


@pytest.mark.parametrize("minor", ["34", "35", "35+"])
async def test_older_servers_cannot_even_with_the_gate_switched_on_by_hand(minor: str) -> None:
    state = await ask(server(minor))
    assert (state.verdict, state.reason) == (Verdict.IMPOSSIBLE, "KubernetesTooOld")
    assert "1.36 or later" in state.message


@pytest.mark.parametrize("minor", ["36+", "37", "40-eks"])
async def test_vendors_decorations_of_the_version_are_read(minor: str) -> None:
    assert (await ask(server(minor))).verdict is Verdict.POSSIBLE


async def test_a_gate_that_is_off_is_named_with_what_to_do() -> None:
    state = await ask(server(drop=True))
    assert (state.verdict, state.reason) == (Verdict.IMPOSSIBLE, "FieldsDropped")
    assert "DRAConsumableCapacity" in state.message
    assert "allowMultipleAllocations" in state.message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: UnreachableError("no route", status=0), "ProbeFailed"),
        (lambda _: {"major": "", "minor": ""}, "VersionUnknown"),
        (
            lambda request: (
                {"major": "1", "minor": "36"}
                if request.path == "/version"
                else ForbiddenError("no", status=403)
            ),
            "ProbeForbidden",
        ),
    ],
)
async def test_what_cannot_be_found_out_is_not_known_rather_than_impossible(answer: Any, reason: str) -> None:
    state = await ask(answer)
    assert (state.verdict, state.reason) == (Verdict.UNKNOWN, reason)


class Watched:
    def __init__(self) -> None:
        self.answer: Any = server()
        self.states: list[ModeState] = []
        client, self.transport = scripted_client(self._answer)
        self.watch = ModeWatch(client, namespace="n", interval_s=300, changed=self.states.append)

    def _answer(self, request: Request) -> Any:
        return self.answer(request)

    def verdict(self) -> Verdict:
        return self.watch.state.verdict

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.watch.run())


async def test_each_change_is_told_once() -> None:
    watched = Watched()
    task = watched.start()
    await asyncio.sleep(1000)
    watched.answer = server(drop=True)
    await asyncio.sleep(1000)
    assert [state.verdict for state in watched.states] == [Verdict.POSSIBLE, Verdict.IMPOSSIBLE]
    task.cancel()


async def test_an_api_server_that_is_away_does_not_change_what_was_known() -> None:
    watched = Watched()
    task = watched.start()
    await asyncio.sleep(1)
    watched.answer = lambda _: UnreachableError("no route", status=0)
    await asyncio.sleep(1000)
    assert watched.verdict() is Verdict.POSSIBLE
    task.cancel()


async def test_as_long_as_nothing_is_known_it_is_asked_often() -> None:
    watched = Watched()
    watched.answer = lambda _: UnreachableError("no route", status=0)
    assert watched.watch.state == NOT_ASKED
    task = watched.start()
    await asyncio.sleep(60)
    assert watched.watch.state.reason == "ProbeFailed"
    watched.answer = server()
    await asyncio.sleep(10)
    assert watched.verdict() is Verdict.POSSIBLE
    task.cancel()


async def test_fields_lost_in_a_real_write_end_native_mode_until_three_probes_say_otherwise() -> None:
    watched = Watched()
    task = watched.start()
    await asyncio.sleep(1)
    watched.watch.report([DroppedField(path="spec.devices[0].x", gate="DRAConsumableCapacity")])
    assert watched.verdict() is Verdict.IMPOSSIBLE
    await asyncio.sleep(601)
    assert watched.verdict() is Verdict.IMPOSSIBLE
    await asyncio.sleep(300)
    assert watched.verdict() is Verdict.POSSIBLE
    task.cancel()


async def test_api_servers_that_are_upgraded_one_after_the_other_make_native_mode_possible_once() -> None:
    watched = Watched()
    minors = ["35", "36", "35", "36", "36", "35", "36", "36", "36", "36"]
    answers = iter(minors)

    def one_of_them(request: Request) -> Any:
        if request.path == "/version":
            return {"major": "1", "minor": next(answers)}
        return server()(request)

    watched.answer = one_of_them
    task = watched.start()
    await asyncio.sleep(300 * len(minors) - 1)
    assert [state.verdict for state in watched.states] == [Verdict.IMPOSSIBLE, Verdict.POSSIBLE]
    assert not list(answers)
    task.cancel()


async def test_other_lost_fields_do_not_end_it() -> None:
    watched = Watched()
    task = watched.start()
    await asyncio.sleep(1)
    watched.watch.report([DroppedField(path="spec.devices[0].taints", gate="DRADeviceTaints")])
    assert watched.verdict() is Verdict.POSSIBLE
    task.cancel()


async def test_a_refused_probe_says_which_right_is_missing() -> None:
    def answer(request: Request) -> Any:
        if request.path == "/version":
            return {"major": "1", "minor": "36"}
        return ForbiddenError("cannot create resource resourceslices", status=403)

    state = await ask(answer)
    assert "cannot create resource resourceslices" in state.message


async def test_errors_of_the_server_are_not_taken_for_an_answer() -> None:
    state = await ask(lambda _: ApiError("etcd is busy", status=500))
    assert state.verdict is Verdict.UNKNOWN
