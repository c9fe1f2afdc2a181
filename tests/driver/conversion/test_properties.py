from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpatch import apply_patch

from driver.allocation.limits import check_claim
from driver.conversion import (
    CONVERTED_ANNOTATION,
    CONVERTED_LABEL,
    Conversion,
    ConversionError,
    ConversionSettings,
    names_of,
    templates_of,
)
from tests.driver.conversion.pods import STOCK, asked, devices_of

SETTINGS = ConversionSettings()
NAMES = names_of(SETTINGS)
GPU, MEMORY, PERCENT, CORES = (
    "nvidia.com/gpu",
    "nvidia.com/gpumem",
    "nvidia.com/gpumem-percentage",
    "nvidia.com/gpucores",
)

LIMITS = st.fixed_dictionaries(
    {},
    optional={
        GPU: st.integers(0, 3).map(str),
        MEMORY: st.sampled_from(["0", "1", "4k", "8192", "15000"]),
        PERCENT: st.sampled_from(["1", "50", "100"]),
        CORES: st.sampled_from(["0", "7", "100"]),
        "volcano.sh/vgpu-number": st.integers(0, 2).map(str),
        "cpu": st.just("1"),
    },
)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    def container(name: str, **more: Any) -> dict[str, Any]:
        resources: dict[str, Any] = {"limits": draw(LIMITS)}
        if draw(st.booleans()):
            resources["requests"] = dict(resources["limits"])
        if draw(st.booleans()):
            resources["claims"] = [{"name": "mine"}]
        return {"name": name, "resources": resources, **more}

    spec: dict[str, Any] = {
        "containers": [container(f"app-{index}") for index in range(draw(st.integers(1, 3)))],
        "initContainers": [
            container(f"init-{index}", **({"restartPolicy": "Always"} if draw(st.booleans()) else {}))
            for index in range(draw(st.integers(0, 3)))
        ],
    }
    if draw(st.booleans()):
        spec["resourceClaims"] = [{"name": "mine", "resourceClaimName": "mine"}]
    metadata = draw(
        st.sampled_from(
            [{}, {"name": "a", "labels": {"x": "y"}}, {"annotations": {"a~/b": "c"}, "labels": None}]
        )
    )
    return {"metadata": metadata, "spec": spec, "unknown": [1]}


def amounts(container: dict[str, Any]) -> dict[str, str]:
    limits = container["resources"]["limits"]
    return {name: value for name, value in limits.items() if name in NAMES}


def cards(container: dict[str, Any]) -> int:
    limits = amounts(container)
    alone = 1 if any(name in limits for name in (MEMORY, PERCENT, CORES)) else 0
    return int(limits.get(GPU, alone)) + int(limits.get("volcano.sh/vgpu-number", 0))


def in_turn(container: dict[str, Any]) -> bool:
    return container["name"].startswith("init-") and "restartPolicy" not in container


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [*document["spec"]["initContainers"], *document["spec"]["containers"]]


def bare(document: dict[str, Any]) -> dict[str, Any]:
    """A pod without anything that conversion may change."""
    made: dict[str, Any] = copy.deepcopy(document)
    for one in containers(made):
        for part in ("limits", "requests"):
            kept = {
                name: value for name, value in one["resources"].get(part, {}).items() if name not in NAMES
            }
            one["resources"][part] = kept
        one["resources"]["claims"] = [
            claim for claim in one["resources"].get("claims", ()) if claim["name"] == "mine"
        ]
    made["spec"]["resourceClaims"] = [
        claim for claim in made["spec"].get("resourceClaims", ()) if claim["name"] == "mine"
    ]
    for kind, mark in (("labels", CONVERTED_LABEL), ("annotations", CONVERTED_ANNOTATION)):
        marks = made["metadata"].get(kind) or {}
        made["metadata"][kind] = {key: value for key, value in marks.items() if key != mark}
    return made


@settings(max_examples=80, deadline=None)
@given(document=pods())
def test_a_pod_becomes_one_that_asks_for_the_same_and_is_the_same_otherwise(document: dict[str, Any]) -> None:
    found = asked(document)
    if found is None:
        assert not any(amounts(one) for one in containers(document))
        return
    made = apply_patch(document, list(found.patch))
    assert bare(made) == bare(document)
    assert not any(amounts(one) for one in containers(made) if "limits" in one["resources"])
    assert asked(made) is None
    if not found.templates:
        assert not any(cards(one) for one in containers(document))
        return
    assert templates_of(made, settings=SETTINGS, stock=STOCK) == found.templates
    check_claim(devices_of(found), "")
    _check_uses(document, made, devices_of(found))


def _check_uses(document: dict[str, Any], made: dict[str, Any], devices: dict[str, Any]) -> None:
    counts = {
        one["name"]: (one["exactly"] if "exactly" in one else one["firstAvailable"][0])["count"]
        for one in devices["requests"]
    }
    (claim,) = [one for one in made["spec"]["resourceClaims"] if one["name"] != "mine"]
    used: dict[str, list[str]] = {}
    for before, after in zip(containers(document), containers(made), strict=True):
        claims = after["resources"].get("claims", ())
        mine = [one["request"] for one in claims if one["name"] == claim["name"]]
        assert sum(counts[name] for name in mine) == cards(before)
        used[before["name"]] = mine
    together = [used[one["name"]] for one in containers(document) if not in_turn(one)]
    names = [name for group in together for name in group]
    assert len(names) == len(set(names))
    # One after the other: a request of an init container's is its own, or all of one that starts after it.
    every = list(containers(document))
    for place, one in enumerate(every):
        if in_turn(one) and used[one["name"]]:
            others = [used[other["name"]] for other in every[place:] if not in_turn(other)]
            assert used[one["name"]] in others or set(used[one["name"]]).isdisjoint(names)
    assert {name for group in used.values() for name in group} == set(counts)


@settings(max_examples=60, deadline=None)
@given(document=pods())
def test_no_amount_ever_becomes_a_whole_card_nor_does_a_cap_get_lost(document: dict[str, Any]) -> None:
    found = asked(document)
    if found is None or not found.templates:
        return
    made = apply_patch(document, list(found.patch))
    options = {
        one["name"]: [one["exactly"]] if "exactly" in one else one["firstAvailable"]
        for one in devices_of(found)["requests"]
    }
    for before, after in zip(containers(document), containers(made), strict=True):
        limits = amounts(before)
        if "volcano.sh/vgpu-number" in limits or not cards(before):
            continue
        for claim in after["resources"]["claims"]:
            for option in options.get(claim.get("request", ""), ()):
                requests = option.get("capacity", {}).get("requests", {})
                part = int(limits.get(MEMORY, "0").replace("k", "000")) > 0
                part = part or limits.get(PERCENT, "100") != "100"
                assert ("memory" in requests) is part
                assert requests.get("cores", "0") == limits.get(CORES, "0")


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(
    value=JSONS,
    name=st.sampled_from(sorted(NAMES)),
    field=st.sampled_from(["env", "securityContext", "name", "restartPolicy"]),
    other=JSONS,
    annotations=st.dictionaries(
        st.sampled_from(["nvidia.com/use-gpuuuid", "nvidia.com/vgpu-mode", "nvidia.com/numa-bind"]),
        JSONS,
        max_size=2,
    ),
)
def test_whatever_a_pod_holds_it_is_converted_or_refused_by_name(
    value: Any, name: str, field: str, other: Any, annotations: dict[str, Any]
) -> None:
    container = {"name": "main", "resources": {"limits": {name: value, GPU: "1"}}, field: other}
    document = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
    outcome = _outcome(document)
    if isinstance(outcome, ConversionError):
        assert outcome.field
        assert outcome.message
    else:
        assert outcome is not None


def _outcome(document: dict[str, Any]) -> Conversion | ConversionError | None:
    try:
        return asked(document)
    except ConversionError as refused:
        return refused
