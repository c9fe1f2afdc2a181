"""Whole devices by extended resources that stand for classes: who has how many, and who shares with whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpatch import apply_patch

from driver.conversion import CONVERTED_ANNOTATION, ConversionError, ConversionSettings, convert, templates_of
from tests.driver.conversion.pods import pod

GOLD = "example.com/gold"
IMPLICIT = "deviceclass.resource.kubernetes.io/gold"


def class_of(resource: str) -> str | None:
    return {GOLD: "gold", IMPLICIT: "gold"}.get(resource)


def converted(document: Any, **more: Any) -> Any:
    given: Any = {"settings": ConversionSettings(), "stock": (), "classes": {}, "class_of": class_of}
    return convert(document, identity="u", **{**given, **more})


def made_of(document: Any, **more: Any) -> Any:
    given: Any = {"settings": ConversionSettings(), "stock": (), "class_of": class_of}
    return templates_of(document, **{**given, **more})


@st.composite
def documents(draw: st.DrawFn) -> Any:
    def container(name: str, **more: Any) -> Any:
        return {"name": name, "resources": {"limits": {GOLD: str(draw(st.integers(0, 4)))}}, **more}

    sidecar = {"restartPolicy": "Always"}
    return {
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [
                container(f"init-{index}", **(sidecar if draw(st.booleans()) else {}))
                for index in range(draw(st.integers(0, 4)))
            ],
            "containers": [container(f"app-{index}") for index in range(draw(st.integers(1, 3)))],
        },
    }


@settings(max_examples=80, deadline=None)
@given(document=documents())
def test_each_container_has_as_many_devices_as_it_asks_for_and_nobody_who_runs_beside_it_has_one_of_them(
    document: Any,
) -> None:
    listed = [*document["spec"]["initContainers"], *document["spec"]["containers"]]
    asked = {one["name"]: int(one["resources"]["limits"][GOLD]) for one in listed}
    lasting = {one["name"] for one in listed if one["name"].startswith("app") or "restartPolicy" in one}
    found = converted(document)
    after = apply_patch(document, list(found.patch))
    if not any(asked.values()):
        assert found.templates == ()
        return
    (template,) = made_of(after)
    assert (template,) == found.templates
    requests = {
        one["name"]: one["exactly"]["count"] for one in template["spec"]["spec"]["devices"]["requests"]
    }
    uses = {
        one["name"]: [claim["request"] for claim in one["resources"].get("claims") or ()]
        for one in (*after["spec"]["initContainers"], *after["spec"]["containers"])
    }
    names = [one["name"] for one in listed]
    for name, mine in uses.items():
        given = sum(requests[one] for one in mine)
        # One that comes before may have more: it gets all devices of a request that it shares.
        assert given == asked[name] if name in lasting else given >= asked[name]
        for other in lasting - {name}:
            if name in lasting or names.index(other) < names.index(name):
                assert set(mine).isdisjoint(uses[other])
    # As kube-scheduler has it: what lasts, and the largest of what init containers lack.
    own = [
        max(asked[one] - sum(asked[later] for later in names[place:] if later in lasting), 0)
        for place, one in enumerate(names)
        if one not in lasting
    ]
    assert sum(requests.values()) == sum(asked[one] for one in lasting) + max(own, default=0)


def test_a_resource_is_whole_devices_also_beside_a_share() -> None:
    found = converted(pod({GOLD: "1", "nvidia.com/gpumem": "4000"}))
    devices = found.templates[0]["spec"]["spec"]["devices"]
    assert [one["exactly"].get("capacity") for one in devices["requests"]] == [
        {"requests": {"memory": "4000Mi"}},
        None,
    ]


def test_where_nobody_says_so_a_name_stands_for_no_class() -> None:
    given: Any = {"settings": ConversionSettings(), "stock": (), "classes": {GOLD: "gold"}}
    assert convert(pod({GOLD: "1", IMPLICIT: "1"}), identity="u", **given) is None


def test_what_is_wrong_with_a_request_is_told_by_the_name_in_the_pod() -> None:
    found = converted(pod({GOLD: "1"}))
    assert found.in_the_pod("spec.spec.devices.requests[0].exactly.count") == (
        f"spec.containers[0].resources.limits[{GOLD}]"
    )


def test_a_pod_whose_class_went_before_its_template_was_made_is_told() -> None:
    found = converted(pod({GOLD: "1"}))
    after = apply_patch(pod({GOLD: "1"}), list(found.patch))
    with pytest.raises(ConversionError, match="names that are not converted"):
        made_of(after, class_of=lambda _resource: None)


def test_no_pod_gets_a_template_of_somebody_elses_class_by_writing_the_annotation() -> None:
    found = converted(pod({GOLD: "1"}))
    after = apply_patch(pod({GOLD: "1"}), list(found.patch))
    annotations = after["metadata"]["annotations"]
    annotations[CONVERTED_ANNOTATION] = annotations[CONVERTED_ANNOTATION].replace(GOLD, "nic.example/fast")
    with pytest.raises(ConversionError, match="names that are not converted"):
        made_of(after)
