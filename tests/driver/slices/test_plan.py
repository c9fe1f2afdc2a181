"""Which writes turn existing slices into wanted ones."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from driver.slices import ExistingSlice, content_digest, plan_writes


def wanted(*contents: Any) -> Any:
    return [
        {
            "metadata": {"name": f"s-{index:05d}"},
            "spec": {
                "devices": [{"name": content}],
                "pool": {"name": "n1/dragoman", "resourceSliceCount": len(contents)},
            },
        }
        for index, content in enumerate(contents)
    ]


class Server:
    """What the plan's writes make of the slices, one by one."""

    def __init__(self) -> None:
        self.slices: dict[str, ExistingSlice] = {}
        self.contents: dict[str, Any] = {}
        self.versions = 0

    def existing(self) -> Any:
        return list(self.slices.values())

    def steps(self, plan: Any) -> Any:
        """Applies the plan; yields after each write."""
        for item in plan.deletes:
            assert self.slices[item.name] == item, "precondition"
            del self.slices[item.name]
            yield
        for item in plan.updates:
            name = item["metadata"]["name"]
            assert item["metadata"]["resourceVersion"] == self.slices[name].resource_version
            self._store(item, uid=self.slices[name].uid)
            yield
        for item in plan.creates:
            assert item["metadata"]["name"] not in self.slices
            self._store(item, uid=f"u{self.versions}")
            yield

    def apply(self, plan: Any) -> None:
        for _ in self.steps(plan):
            pass

    def _store(self, item: Any, *, uid: Any) -> None:
        self.versions += 1
        name = item["metadata"]["name"]
        self.slices[name] = ExistingSlice(
            name=name,
            uid=uid,
            resource_version=str(self.versions),
            generation=item["spec"]["pool"]["generation"],
            digest=content_digest(item["spec"]),
            node_name=item["spec"].get("nodeName", ""),
        )
        self.contents[self.slices[name].digest] = item

    def usable(self) -> Any:
        """Contents of the newest generation if a consumer would call its pool complete."""
        top = max((item.generation for item in self.slices.values()), default=0)
        newest = [item for item in self.slices.values() if item.generation == top]
        specs = [self.contents[item.digest]["spec"] for item in newest]
        if specs and all(spec["pool"]["resourceSliceCount"] == len(specs) for spec in specs):
            return {item.name: item.digest for item in newest}
        return None


def served(*contents: Any) -> Any:
    server = Server()
    server.apply(plan_writes(wanted(*contents), []))
    return server


contents = st.lists(st.sampled_from("abc"), max_size=4)


def test_the_first_slices_of_a_pool_are_generation_1() -> None:
    plan = plan_writes(wanted("a", "b"), [])
    assert [item["spec"]["pool"]["generation"] for item in plan.creates] == [1, 1]
    assert not plan.updates
    assert not plan.deletes


def test_nothing_is_written_where_nothing_changed() -> None:
    assert plan_writes(wanted("a", "b"), served("a", "b").existing()).empty


def test_a_change_of_one_slice_keeps_the_generation() -> None:
    plan = plan_writes(wanted("a", "c"), served("a", "b").existing())
    assert [item["spec"]["pool"]["generation"] for item in plan.updates] == [1]
    assert not plan.creates


def test_a_change_of_two_slices_is_a_new_generation_of_all() -> None:
    plan = plan_writes(wanted("x", "y", "c"), served("a", "b", "c").existing())
    assert [item["spec"]["pool"]["generation"] for item in plan.updates] == [2, 2, 2]


def on_node(items: Any) -> Any:
    return [{**item, "spec": {**item["spec"], "nodeName": "n1"}} for item in items]


def test_slices_that_get_a_node_name_are_deleted_and_made_again_as_a_new_generation() -> None:
    server = served("a", "b")
    plan = plan_writes(on_node(wanted("a", "b")), server.existing())
    assert len(plan.deletes) == 2
    assert [item["spec"]["pool"]["generation"] for item in plan.creates] == [2, 2]
    server.apply(plan)
    assert plan_writes(on_node(wanted("a", "b")), server.existing()).empty


def test_a_pool_that_grows_is_a_new_generation_of_all() -> None:
    plan = plan_writes(wanted("a", "b"), served("a").existing())
    assert [item["spec"]["pool"]["generation"] for item in (*plan.updates, *plan.creates)] == [2, 2]


def test_a_pool_that_shrinks_deletes_first_and_raises_the_generation() -> None:
    plan = plan_writes(wanted("a"), served("a", "b").existing())
    assert [item.name for item in plan.deletes] == ["s-00001"]
    assert [item["spec"]["pool"]["generation"] for item in plan.updates] == [2]


def test_slices_that_vanished_come_back_in_their_generation() -> None:
    server = served("a", "b", "c")
    del server.slices["s-00001"]
    del server.slices["s-00002"]
    plan = plan_writes(wanted("a", "b", "c"), server.existing())
    assert [item["spec"]["pool"]["generation"] for item in plan.creates] == [1, 1]
    assert not plan.updates


def test_a_pool_that_is_no_longer_wanted_is_deleted_with_preconditions() -> None:
    plan = plan_writes([], served("a", "b").existing())
    assert [(item.name, item.uid != "", item.resource_version != "") for item in plan.deletes] == [
        ("s-00000", True, True),
        ("s-00001", True, True),
    ]


def test_an_update_names_uid_and_version_of_what_it_replaces() -> None:
    server = served("a")
    (update,) = plan_writes(wanted("b"), server.existing()).updates
    found = server.slices["s-00000"]
    assert (update["metadata"]["uid"], update["metadata"]["resourceVersion"]) == (
        found.uid,
        found.resource_version,
    )


def test_what_the_server_made_of_a_write_with_dropped_fields_is_not_written_again() -> None:
    server = served("a")
    stored = replace(server.slices["s-00000"], digest="without the dropped fields")
    (item,) = wanted("a")
    accepted = {content_digest(item["spec"]): "without the dropped fields"}
    assert not plan_writes([item], [stored]).empty
    assert plan_writes([item], [stored], accepted=accepted).empty


@given(contents, contents)
def test_after_its_writes_a_plan_has_nothing_left_to_do(before: Any, after: Any) -> None:
    server = served(*before)
    server.apply(plan_writes(wanted(*after), server.existing()))
    assert plan_writes(wanted(*after), server.existing()).empty
    assert {item.digest for item in server.existing()} == {content_digest(i["spec"]) for i in wanted(*after)}
    assert len({item.generation for item in server.existing()}) <= 1


@given(contents, contents, st.integers(0, 8), contents, st.sets(st.integers(0, 3)))
def test_nobody_ever_sees_half_of_a_change_even_if_a_plan_is_cut_short(
    first: Any, second: Any, cut: Any, third: Any, vanish: Any
) -> None:
    """A complete pool of the newest generation is always one of the pools that were wanted as a whole."""
    whole = [
        {item["metadata"]["name"]: content_digest(item["spec"]) for item in wanted(*texts)}
        for texts in (first, second, third)
    ]
    server = served(*first)
    for _, _step in zip(
        range(cut), server.steps(plan_writes(wanted(*second), server.existing())), strict=False
    ):
        assert server.usable() in (None, *whole)
    for index in vanish:
        server.slices.pop(f"s-{index:05d}", None)
    generation = max((item.generation for item in server.existing()), default=0)
    for _ in server.steps(plan_writes(wanted(*third), server.existing())):
        assert server.usable() in (None, *whole)
    if third:
        assert server.usable() == whole[2]
        assert {item.generation >= generation for item in server.existing()} == {True}
    else:
        assert not server.existing()
