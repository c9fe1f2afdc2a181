"""The store equals the server's list, whatever happens on the way."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from driver.kube.client import ApiError, SilentWatchError, UnreachableError, error_for
from driver.kube.informer import Informer, Selection
from driver.kube.resources import NODES, PODS
from tests.support.scripted_api import scripted_client

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def node(name: str, version: int, *, uid: str = "", text: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "resourceVersion": str(version), "uid": uid or f"uid-{name}"},
        "text": text,
        "managed": "x" * 100,
    }


def page(*items: Any, version: int = 10, token: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": token}, "items": list(items)}


def event(kind: str, document: Any) -> dict[str, Any]:
    return {"type": kind, "object": document}


def bookmark(version: int) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


GONE_EVENT = event("ERROR", {"code": 410, "message": "too old resource version"})
CUT = UnreachableError("connection reset", status=0)


class World:
    """An informer of nodes over scripted pages and watches, and what its handler was told."""

    def __init__(self, pages: Any, watches: Any = (), **arguments: Any) -> None:
        script = iter(pages)
        self.client, self.transport = scripted_client(lambda _: next(script), watches=watches)
        self.told: list[Any] = []
        self.informer = Informer(
            self.client,
            NODES,
            lambda document: document["text"] or document["metadata"]["name"],
            source=random.Random(1),
            **arguments,
        )
        self.informer.subscribe(lambda key, before, after: self.told.append((key, before, after)))

    async def run_for(self, seconds: float) -> None:
        task = asyncio.create_task(self.informer.run())
        await asyncio.wait([task], timeout=seconds)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_list_is_read_page_by_page_and_projected() -> None:
    world = World([page(node("a", 1), token="t1"), page(node("b", 2))], page_size=1)
    await world.run_for(1)
    assert world.informer.synced.is_set()
    assert (world.informer.get("a"), world.informer.get("b"), len(world.informer)) == ("a", "b", 2)
    assert [request.query for request in world.transport.requests] == [
        {"limit": "1"},
        {"limit": "1", "continue": "t1"},
    ]


async def test_an_object_that_cannot_be_read_is_passed_over_and_hides_no_other() -> None:
    broken = {"metadata": node("broken", 3)["metadata"]}
    events = [event("ADDED", {"metadata": node("b", 11)["metadata"]})]
    world = World([page(node("a", 1), broken, node("c", 2))], [[*events, event("ADDED", node("d", 12)), 1e9]])
    await world.run_for(1)
    assert sorted(world.informer.keys()) == ["a", "c", "d"]


async def test_an_object_that_can_no_longer_be_read_is_gone() -> None:
    broken = {"metadata": node("a", 12)["metadata"]}
    world = World([page(node("a", 1))], [[event("MODIFIED", broken), 1e9]])
    await world.run_for(1)
    assert world.told == [("a", None, "a"), ("a", "a", None)]


async def test_it_is_not_synced_before_the_last_page_arrived() -> None:
    world = World([page(node("a", 1), token="t1"), CUT, page(node("a", 1), node("b", 2))])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(0.1)
    assert not world.informer.synced.is_set()
    assert len(world.informer) == 0
    await asyncio.sleep(2)
    assert sorted(world.informer.keys()) == ["a", "b"]
    task.cancel()


async def test_handlers_of_a_long_first_list_leave_others_their_turn_and_it_is_synced_after_them() -> None:
    world = World([page(*(node(f"n{number}", 1) for number in range(100)))], page_size=100)
    turns, seen = 0, []

    def note(_key: str, _before: Any, _after: Any) -> None:
        seen.append((turns, world.informer.synced.is_set(), world.informer.version))

    async def others() -> None:
        nonlocal turns
        while not world.informer.synced.is_set():
            turns += 1
            await asyncio.sleep(0)

    world.informer.subscribe(note)
    running = asyncio.create_task(others())
    await world.run_for(1)
    await running
    assert len(seen) == 100
    assert seen[-1][0] - seen[0][0] >= 4
    assert {(synced, version) for _, synced, version in seen} == {(False, 0)}


async def test_the_watch_begins_where_the_list_ended_and_asks_for_bookmarks() -> None:
    world = World([page(version=42)])
    await world.run_for(1)
    (query,) = world.transport.watched
    assert query["resourceVersion"] == "42"
    assert query["allowWatchBookmarks"] == "true"
    assert 261 <= int(query["timeoutSeconds"]) <= 319


async def test_events_change_the_store_and_are_told() -> None:
    events = [
        event("ADDED", node("b", 11)),
        event("MODIFIED", node("b", 12, text="B")),
        event("DELETED", node("b", 13)),
    ]
    world = World([page(node("a", 1))], [[*events, 1e9]])
    await world.run_for(1)
    assert world.told == [("a", None, "a"), ("b", None, "b"), ("b", "b", "B"), ("b", "B", None)]
    assert world.informer.keys() == ["a"]


async def test_deletions_missed_during_a_410_are_emitted() -> None:
    world = World(
        [
            page(*(node(f"n{i}", i) for i in range(20))),
            page(*(node(f"n{i}", i) for i in range(15)), version=99),
        ],
        [[bookmark(50), GONE_EVENT]],
    )
    await world.run_for(5)
    assert len(world.informer) == 15
    assert sorted(key for key, _, after in world.told if after is None) == ["n15", "n16", "n17", "n18", "n19"]
    assert [query["resourceVersion"] for query in world.transport.watched] == ["10", "99"]


async def test_410_as_an_answer_to_the_watch_means_the_same() -> None:
    gone = error_for(410, message="Expired")
    world = World([page(node("a", 1)), page(version=99)], [[bookmark(50)], [gone]])
    await world.run_for(5)
    assert world.informer.keys() == []


async def test_an_object_made_anew_under_its_name_is_a_deletion_and_an_addition() -> None:
    world = World(
        [page(node("a", 1, uid="old", text="old")), page(node("a", 60, uid="new", text="new"), version=99)],
        [[bookmark(50), GONE_EVENT]],
    )
    await world.run_for(5)
    assert world.told[1:] == [("a", "old", None), ("a", None, "new")]


async def test_a_list_that_changes_nothing_tells_nothing() -> None:
    world = World([page(node("a", 1)), page(node("a", 1), version=99)], [[bookmark(50), GONE_EVENT]])
    await world.run_for(5)
    assert len(world.told) == 1
    assert world.informer.lists == 2


async def test_410_in_the_middle_of_the_pages_starts_the_list_again() -> None:
    gone = error_for(410, message="The provided continue parameter is too old")
    world = World([page(node("gone", 1), token="t"), gone, page(node("a", 2))])
    await world.run_for(5)
    assert world.informer.keys() == ["a"]
    assert all(key != "gone" for key, _, _ in world.told)


@pytest.mark.parametrize("seen", [0, 1, 2])
async def test_a_watch_that_is_cut_is_resumed_after_the_last_event_without_a_new_list(seen: int) -> None:
    events = [event("ADDED", node("b", 11)), event("ADDED", node("c", 12))]
    world = World([page(node("a", 1))], [[*events[:seen], CUT], [*events[seen:], 1e9]])
    await world.run_for(5)
    assert sorted(world.informer.keys()) == ["a", "b", "c"]
    assert [query["resourceVersion"] for query in world.transport.watched] == ["10", str(10 + seen or 10)]
    assert world.informer.lists == 1


async def test_a_bookmark_moves_the_point_where_the_watch_is_resumed() -> None:
    world = World([page()], [[bookmark(77)], [1e9]])
    await world.run_for(5)
    assert [query["resourceVersion"] for query in world.transport.watched] == ["10", "77"]


async def test_an_error_event_other_than_410_waits_and_resumes() -> None:
    failed = event("ERROR", {"code": 500, "message": "etcd is busy"})
    world = World([page()], [[failed], [event("ADDED", node("b", 11)), 1e9]])
    await world.run_for(5)
    assert world.informer.keys() == ["b"]
    assert world.informer.lists == 1


async def test_a_watch_that_fails_again_and_again_leads_to_a_new_list() -> None:
    world = World([page(), page(node("a", 20), version=20)], [[CUT]] * 4)
    await world.run_for(30)
    assert world.informer.keys() == ["a"]


async def test_watches_that_are_cut_off_after_a_while_are_resumed_soon_however_often_that_happens() -> None:
    world = World(itertools.repeat(page()), [[5.0, CUT] for _ in range(1000)])
    await world.run_for(300)
    assert len(world.transport.watched) > 50


async def test_watches_that_end_at_once_do_not_turn_into_a_busy_loop() -> None:
    world = World(itertools.repeat(page()), [[] for _ in range(1000)])
    await world.run_for(60)
    assert len(world.transport.watched) < 25


async def test_a_server_that_forgets_what_it_just_listed_does_not_cause_a_storm_of_lists() -> None:
    world = World(itertools.repeat(page()), [[GONE_EVENT] for _ in range(1000)])
    await world.run_for(60)
    assert len(world.transport.requests) < 12


async def test_a_server_that_is_away_is_asked_ever_more_rarely_and_then_found_again() -> None:
    world = World([CUT] * 8 + [page(node("a", 1))])
    await world.run_for(40)
    assert not world.informer.synced.is_set()
    world = World([CUT] * 8 + [page(node("a", 1))])
    await world.run_for(200)
    assert world.informer.keys() == ["a"]


async def test_a_handler_that_raises_does_not_keep_others_from_being_told() -> None:
    world = World([page(node("a", 1), node("b", 2))])

    def broken(key: str, before: Any, after: Any) -> None:
        raise RuntimeError(key)

    world.informer._handlers.insert(0, broken)
    await world.run_for(1)
    assert len(world.told) == 2


async def test_what_is_projected_to_nothing_is_not_kept_and_leaves_when_it_becomes_nothing() -> None:
    client, _ = scripted_client(
        lambda _: page(node("a", 1, text="keep"), node("b", 2)),
        watches=[[event("MODIFIED", node("a", 11, text="")), 1e9]],
    )
    informer: Informer[str] = Informer(client, NODES, lambda document: document["text"] or None)
    told: list[Any] = []
    informer.subscribe(lambda *change: told.append(change))
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(1)
    task.cancel()
    assert told == [("a", None, "keep"), ("a", "keep", None)]
    assert len(informer) == 0


async def test_keys_of_namespaced_objects_hold_the_namespace_and_the_selection_is_sent() -> None:
    pod = {"metadata": {"name": "p", "namespace": "ns", "resourceVersion": "1", "uid": "u"}}
    client, transport = scripted_client(lambda _: page(pod))
    selection = Selection(namespace="ns", label_selector="app=x", field_selector="spec.nodeName=")
    informer: Informer[bool] = Informer(client, PODS, lambda _: True, selection=selection)
    task = asyncio.create_task(informer.run())
    await asyncio.sleep(1)
    task.cancel()
    assert informer.keys() == ["ns/p"]
    assert transport.requests[0].path == "/api/v1/namespaces/ns/pods"
    for query in (transport.requests[0].query, transport.watched[0]):
        assert query["labelSelector"] == "app=x"
        assert query["fieldSelector"] == "spec.nodeName="


async def test_the_answer_to_a_write_is_known_before_the_watch_tells_it_and_told_once() -> None:
    world = World([page()], [[5.0, event("ADDED", node("mine", 11)), 1e9]])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(1)
    world.informer.observe(node("mine", 11))
    assert world.informer.get("mine") == "mine"
    await asyncio.sleep(10)
    assert world.told == [("mine", None, "mine")]
    task.cancel()


async def test_a_late_answer_does_not_bring_back_what_the_watch_saw_deleted() -> None:
    world = World([page()], [[event("ADDED", node("mine", 11)), event("DELETED", node("mine", 12)), 1e9]])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(1)
    world.informer.observe(node("mine", 11))
    assert world.informer.get("mine") is None
    task.cancel()


async def test_an_older_event_does_not_turn_back_an_answer_that_is_newer() -> None:
    events = [5.0, event("MODIFIED", node("mine", 11, text="older")), event("DELETED", node("mine", 12)), 1e9]
    world = World([page(node("mine", 1))], [events])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(1)
    world.informer.observe(node("mine", 13, uid="another", text="newest"))
    await asyncio.sleep(10)
    assert world.informer.get("mine") == "newest"
    task.cancel()


async def test_a_list_made_before_a_write_does_not_take_the_write_away() -> None:
    world = World(
        [page(), page(version=50), page(version=90)],
        [[bookmark(20), 5.0, GONE_EVENT], [bookmark(60), 5.0, GONE_EVENT]],
    )
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(1)
    world.informer.observe(node("mine", 70))
    await asyncio.sleep(5)
    assert world.informer.lists == 2
    assert world.informer.get("mine") == "mine"
    await asyncio.sleep(10)
    assert world.informer.lists == 3
    assert world.informer.get("mine") is None
    task.cancel()


async def test_the_age_says_how_long_the_server_has_been_silent() -> None:
    world = World([page()], [[30.0, bookmark(20), 1e9]])
    assert world.informer.age_s == float("inf")
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(20)
    assert 19 < world.informer.age_s < 21
    await asyncio.sleep(15)
    assert 4 < world.informer.age_s < 6
    task.cancel()


async def test_a_watch_that_is_left_is_closed_at_once() -> None:
    world = World([page(), page()], [[bookmark(20), GONE_EVENT, 1e9]])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(1)
    assert world.transport.closed_watches == 1
    task.cancel()


async def test_other_faults_than_the_servers_end_the_task_and_are_not_hidden() -> None:
    client, _ = scripted_client(lambda _: {"items": 5, "metadata": {}})
    informer: Informer[str] = Informer(client, NODES, lambda document: document["metadata"]["name"])
    with pytest.raises(TypeError):
        await informer.run()


async def test_a_refusal_is_waited_out_like_a_silence() -> None:
    world = World([ApiError("forbidden", status=403), page(node("a", 1))])
    await world.run_for(5)
    assert world.informer.keys() == ["a"]


async def test_a_quiet_kind_is_asked_again_at_once_and_does_not_count_as_a_silent_server() -> None:
    silent = SilentWatchError("no byte for 70 s", status=0)
    world = World(itertools.repeat(page(node("a", 1))), [[70.0, silent] for _ in range(100)])
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(700)
    assert len(world.transport.watched) in (10, 11)
    assert world.informer.lists == 1
    assert world.informer.age_s <= 141
    task.cancel()


async def test_a_list_of_a_history_that_was_set_back_is_taken_as_it_is() -> None:
    restored = page(node("a", 40, text="of the backup"), version=50)
    events = [1.0, event("MODIFIED", node("a", 60, text="later")), event("ADDED", node("c", 61)), 1e9]
    world = World(
        [page(node("a", 90, text="lost"), node("b", 95), version=100), restored],
        [[bookmark(101), 3.0, GONE_EVENT], events],
    )
    task = asyncio.create_task(world.informer.run())
    await asyncio.sleep(2)
    world.informer.observe(node("mine", 105))
    await asyncio.sleep(1.5)
    assert list(world.informer.values()) == ["of the backup"]
    await asyncio.sleep(5)
    assert sorted(world.informer.values()) == ["c", "later"]
    task.cancel()


async def test_an_answer_that_comes_while_a_list_of_another_history_is_read_is_spared() -> None:
    def answers() -> Any:
        yield page(node("a", 90), version=100)
        yield page(node("a", 40), version=50, token="t")
        world.informer.observe(node("mine", 105))
        yield page(version=50)

    world = World(answers(), [[bookmark(101), 3.0, GONE_EVENT]])
    await world.run_for(6)
    assert world.informer.lists == 2
    assert sorted(world.informer.keys()) == ["a", "mine"]


async def test_one_version_may_stand_for_two_states_in_two_histories() -> None:
    world = World(
        [page(node("a", 90, text="before"), version=100), page(node("a", 90, text="after"), version=95)],
        [[bookmark(101), GONE_EVENT]],
    )
    await world.run_for(5)
    assert world.told[-1] == ("a", "before", "after")


async def test_an_event_of_a_lower_version_than_the_one_before_means_a_new_list() -> None:
    world = World(
        [page(node("a", 90), version=100), page(node("a", 40, text="of the backup"), version=50)],
        [[event("MODIFIED", node("a", 45, text="of the backup")), 1e9]],
    )
    await world.run_for(5)
    assert world.informer.lists == 2
    assert world.informer.get("a") == "of the backup"


async def test_a_silent_watch_from_a_version_that_the_server_has_not_reached_means_a_new_list() -> None:
    silent = SilentWatchError("no byte for 70 s", status=0)
    restored = page(node("a", 40, text="of the backup"), version=50)
    world = World([page(node("a", 90), version=100), restored, restored], [[70.0, silent]])
    await world.run_for(75)
    assert world.informer.lists == 2
    assert world.informer.get("a") == "of the backup"


async def test_a_silent_watch_of_a_server_that_does_not_answer_goes_on() -> None:
    silent = SilentWatchError("no byte for 70 s", status=0)
    world = World([page(node("a", 1)), CUT], [[70.0, silent], [event("ADDED", node("b", 12)), 1e9]])
    await world.run_for(75)
    assert world.informer.lists == 1
    assert sorted(world.informer.keys()) == ["a", "b"]
