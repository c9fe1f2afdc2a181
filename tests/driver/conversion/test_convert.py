from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from jsonpatch import apply_patch

from driver.cards import Card
from driver.conversion import (
    CONVERTED_ANNOTATION,
    CONVERTED_LABEL,
    OPT_OUTS,
    CardKind,
    Conversion,
    ConversionError,
    ConversionSettings,
    names_of,
    opted_out,
    stock_of,
    templates_of,
)
from driver.errors import ConfigError
from tests.driver.conversion.pods import (
    STOCK,
    amounts_of,
    asked,
    cards_of,
    converted,
    devices_of,
    partitions_of,
    pod,
)

GPU, MEMORY, CORES = "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores"
SETTINGS = ConversionSettings()


def after(document: dict[str, Any], found: Conversion) -> dict[str, Any]:
    made: dict[str, Any] = apply_patch(document, list(found.patch))
    return made


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"spec": None},
        {"spec": {"containers": None}},
        {"spec": {"containers": "abc"}},
        {"spec": {"containers": [None]}},
        {"spec": {"containers": [{"name": "a", "resources": {"limits": None}}]}},
        pod({"cpu": "1", "memory": "1Gi"}),
        pod({"example.com/gpu": "1"}),
    ],
)
def test_a_pod_that_asks_for_none_of_the_names_is_not_touched(document: dict[str, Any]) -> None:
    assert asked(document) is None


@pytest.mark.parametrize(("key", "value"), OPT_OUTS)
def test_a_pod_that_does_not_want_to_be_converted_is_left_alone_also_in_hamis_words(
    key: str, value: str
) -> None:
    assert asked(pod({GPU: "1"}, labels={key: value})) is None
    assert asked(pod({GPU: "1"}, labels={key: "else"})) is not None
    assert opted_out({key: value})
    assert not opted_out({key: "else"})
    assert not opted_out({})
    assert not opted_out(None)


def test_the_image_of_a_static_pod_is_left_alone() -> None:
    document = pod({GPU: "1"}, annotations={"kubernetes.io/config.mirror": "x"}, nodeName="node-1")
    assert asked(document) is None


def test_a_converted_pod_that_comes_again_is_left_as_it_is() -> None:
    document = pod({GPU: "1", MEMORY: "4k"})
    once = after(document, converted(document))
    assert asked(once) is None
    assert once["metadata"]["labels"] == {CONVERTED_LABEL: "true"}


@pytest.mark.parametrize("mark", ["labels", "annotations"])
def test_a_pod_that_is_marked_as_converted_and_asks_again_is_refused(mark: str) -> None:
    marks = {"labels": {CONVERTED_LABEL: "true"}, "annotations": {CONVERTED_ANNOTATION: "{}"}}
    with pytest.raises(ConversionError) as refused:
        asked(pod({GPU: "1"}, **{mark: marks[mark]}))
    assert refused.value.reason == "ConvertedPodInvalid"
    assert CONVERTED_ANNOTATION in refused.value.remedy


def test_the_arguments_are_not_changed() -> None:
    document = pod({GPU: "2", MEMORY: "4k"}, annotations={"a": "b"})
    before = copy.deepcopy(document)
    converted(document)
    assert document == before


def test_two_requests_of_admission_give_templates_of_two_names_and_one_gives_one() -> None:
    document = pod({GPU: "1"})
    one, other = converted(document, identity="a"), converted(document, identity="b")
    assert one.templates[0]["metadata"]["name"] != other.templates[0]["metadata"]["name"]
    assert converted(document, identity="a") == one


def test_the_template_is_named_by_the_pod_and_worked_out_from_it_again() -> None:
    document = pod({GPU: "1", MEMORY: "4k"})
    found = converted(document)
    stored = after(document, found)
    (claim,) = stored["spec"]["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == found.templates[0]["metadata"]["name"]
    assert templates_of(stored, settings=SETTINGS, stock=STOCK) == found.templates


def test_a_pod_that_was_given_to_a_node_meanwhile_has_the_same_templates() -> None:
    document = pod({GPU: "1", MEMORY: "4k"})
    found = converted(document)
    stored = after(document, found)
    stored["spec"]["nodeName"] = "node-1"
    stored["spec"]["schedulerName"] = "default-scheduler"
    assert templates_of(stored, settings=SETTINGS, stock=STOCK) == found.templates


def test_a_pod_that_names_its_node_is_converted_where_such_pods_are_given_cards() -> None:
    document = pod({GPU: "1"}, nodeName="node-1")
    assert converted(document, settings=ConversionSettings(named_nodes=True)).templates
    with pytest.raises(ConversionError) as refused:
        asked(document)
    assert refused.value.field == "spec.nodeName"


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("spec.spec.devices.requests[0].exactly.capacity.requests.memory", f"limits[{MEMORY}]"),
        ("spec.spec.devices.requests[0].exactly.capacity.requests.cores", f"limits[{GPU}]"),
        ("spec.spec.devices.requests[0].exactly.count", f"limits[{GPU}]"),
        ("spec.spec.devices.requests[0]", f"limits[{GPU}]"),
        (
            "spec.spec.devices.requests[1].firstAvailable[0].capacity.requests.memory",
            "limits[nvidia.com/gpumem-percentage]",
        ),
        ("spec.spec.devices.requests[1].firstAvailable[0].capacity.requests.cores", f"limits[{CORES}]"),
        ("spec.spec.devices.requests[0].exactly.selectors[0].cel.expression", f"limits[{GPU}]"),
        ("spec.spec.devices.requests[7].exactly", "spec.containers"),
        ("spec.spec.devices.constraints[0]", "spec.containers"),
        ("metadata.name", "metadata.name"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_by_its_place_in_the_pod(field: str, place: str) -> None:
    document = pod({GPU: "1", MEMORY: "4k"})
    document["spec"]["containers"].append(
        {"name": "other", "resources": {"limits": {"nvidia.com/gpumem-percentage": "50", CORES: "30"}}}
    )
    found = converted(document)
    index = 1 if "requests[1]" in field else 0
    expected = f"spec.containers[{index}].resources.{place}" if place.startswith("limits") else place
    assert found.in_the_pod(field) == expected
    assert found.told_of_the_pod(f"{field}: This is wrong: x.").endswith(": This is wrong: x.")


def test_a_sentence_without_a_path_stays_as_it_is() -> None:
    found = converted(pod({GPU: "1"}))
    assert found.told_of_the_pod("All is well.") == "All is well."
    told = found.told_of_the_pod("spec.spec.devices.requests[0].exactly.count: Too many.")
    assert told == f"spec.containers[0].resources.limits[{GPU}]: Too many."


def forged(**changes: Any) -> dict[str, Any]:
    document = pod({GPU: "1", MEMORY: "4k"})
    stored = after(document, converted(document))
    annotations = stored["metadata"]["annotations"]
    record = json.loads(annotations[CONVERTED_ANNOTATION]) | changes
    annotations[CONVERTED_ANNOTATION] = json.dumps(record)
    return stored


def spoilt(text: Any) -> dict[str, Any]:
    document = pod({GPU: "1", MEMORY: "4k"})
    stored = after(document, converted(document))
    stored["metadata"]["annotations"][CONVERTED_ANNOTATION] = text
    return stored


@pytest.mark.parametrize(
    "stored",
    [
        pod({"cpu": "1"}),
        spoilt(""),
        spoilt("{"),
        spoilt("null"),
        spoilt("[" * 5000),
        spoilt('{"containers":{}}'),
        spoilt("x" * 20_000),
        spoilt(7),
        forged(template="kube-system-secrets"),
        forged(template="dragoman-" + "0" * 20),
        forged(template="../x"),
        forged(template=7),
        forged(containers=[]),
        forged(containers={"other": {GPU: "1"}}),
        forged(containers={"main": {"cpu": "1"}}),
        forged(containers={"main": ["nvidia.com/gpu"]}),
        forged(more=1),
    ],
)
def test_a_record_that_conversion_did_not_write_gives_an_error_and_no_template(
    stored: dict[str, Any],
) -> None:
    with pytest.raises(ConversionError) as refused:
        templates_of(stored, settings=SETTINGS, stock=STOCK)
    assert refused.value.reason == "ConvertedPodInvalid"
    assert refused.value.field == f"metadata.annotations[{CONVERTED_ANNOTATION}]"


@pytest.mark.parametrize(
    "amounts",
    [
        {GPU: "99"},
        {GPU: "1", MEMORY: "16Gi"},
        {GPU: "1", CORES: -1},
        {GPU: {"a": 1}},
        {GPU: True},
        {GPU: None},
    ],
)
def test_amounts_that_somebody_wrote_into_a_record_are_read_as_strictly_as_those_of_a_pod(
    amounts: dict[str, Any],
) -> None:
    with pytest.raises(ConversionError) as refused:
        templates_of(forged(containers={"main": amounts}), settings=SETTINGS, stock=STOCK)
    assert refused.value.reason == "LegacyAmountInvalid"


def test_a_record_without_any_amount_gives_no_template() -> None:
    assert templates_of(forged(containers={}), settings=SETTINGS, stock=STOCK) == ()


@pytest.mark.parametrize(
    ("value", "mib"),
    [
        ("4000", "4000Mi"),
        ("4k", "4000Mi"),
        (4000, "4000Mi"),
        (4000.0, "4000Mi"),
        ("4e3", "4000Mi"),
        ("+1", "1Mi"),
    ],
)
def test_an_amount_may_be_written_as_the_api_server_writes_it(value: object, mib: str) -> None:
    found = converted(pod({GPU: "1", MEMORY: value}))
    assert amounts_of(found) == [{"memory": mib}]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("16Gi", 'for 16Gi write "16384"'),
        ("4096Mi", 'for 4096Mi write "4096"'),
        ("1Mi", 'for 1Mi write "1"'),
        ("1Ei", "without a suffix"),
        ("-1Gi", "without a suffix"),
        ("1.5", "whole number"),
        ("4000m", "whole number"),
        ("1u", "whole number"),
        ("-1", "whole number"),
        ("17179869184", 'if these are bytes, write "16384"'),
        ("16384M", 'if these are bytes, write "15625"'),
        ("1E", "at most"),
        ("1e1000", "at most"),
        ("1e9999", "whole number"),
        ("9" * 2000, "whole number"),
        ("", "whole number"),
        ("four", "whole number"),
        (True, "whole number"),
        (None, "whole number"),
        ([1], "whole number"),
        (1.5, "whole number"),
        (float("inf"), "whole number"),
    ],
)
def test_an_amount_that_cannot_be_meant_is_refused_with_its_path_and_what_to_write(
    value: object, remedy: str
) -> None:
    with pytest.raises(ConversionError) as refused:
        asked(pod({GPU: "1", MEMORY: value}))
    assert refused.value.reason == "LegacyAmountInvalid"
    assert refused.value.field == "spec.containers[0].resources.limits[nvidia.com/gpumem]"
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("value", "words"), [(True, "true"), (None, "null"), ("true", "'true'"), ([1], "'[1]'")]
)
def test_what_is_no_amount_is_shown_in_the_words_of_yaml(value: object, words: str) -> None:
    with pytest.raises(ConversionError) as refused:
        asked(pod({GPU: "1", MEMORY: value}))
    assert refused.value.message.startswith(f"{words} is not a")


def test_limits_and_requests_that_say_the_same_in_two_ways_are_the_same() -> None:
    document = pod({GPU: "1", MEMORY: "4000"})
    document["spec"]["containers"][0]["resources"]["requests"] = {GPU: 1, MEMORY: "4k"}
    found = converted(document)
    assert after(document, found)["spec"]["containers"][0]["resources"].keys() == {"claims"}


@pytest.mark.parametrize("request_", ["5k", "no number"])
def test_requests_that_are_not_the_limits_are_refused(request_: str) -> None:
    document = pod({GPU: "1", MEMORY: "4000"})
    document["spec"]["containers"][0]["resources"]["requests"] = {GPU: "1", MEMORY: request_}
    with pytest.raises(ConversionError) as refused:
        asked(document)
    assert refused.value.field == "spec.containers[0].resources.requests[nvidia.com/gpumem]"


@pytest.mark.parametrize(
    "document",
    [
        pod({GPU: "1"}) | {"metadata": ["a"]},
        pod({GPU: "1"}, annotations=["a"]),  # type: ignore[arg-type]
        {"spec": {"containers": [{"name": "a", "resources": {"limits": {GPU: "1"}, "requests": ["a"]}}]}},
        {"spec": {"containers": [{"name": "a", "resources": {"limits": {GPU: "1"}}}, "b"]}},
        {"spec": {"containers": [{"resources": {"limits": {GPU: "1"}}}]}},
        {"spec": {"containers": [{"name": "a", "resources": {"limits": {GPU: "1"}}}] * 2}},
    ],
)
def test_what_is_no_pod_is_refused_and_never_guessed_at(document: dict[str, Any]) -> None:
    with pytest.raises(ConversionError):
        asked(document)


def test_a_pod_without_metadata_gets_some() -> None:
    document = {"spec": pod({GPU: "1"})["spec"]}
    assert after(document, converted(document))["metadata"]["labels"] == {CONVERTED_LABEL: "true"}


def test_names_of_containers_that_are_no_names_of_requests_do_not_hurt() -> None:
    document = pod({GPU: "1"})
    document["spec"]["containers"] = [
        {"name": name, "resources": {"limits": {GPU: "1", "volcano.sh/vgpu-number": "1"}}}
        for name in ("a", "a" * 63, "A b", "a-1")
    ]
    names = [one["name"] for one in devices_of(converted(document))["requests"]]
    assert len(names) == len(set(names)) == 8
    assert all(len(name) <= 63 for name in names)


def test_a_container_keeps_its_name_though_another_ones_second_request_would_like_it() -> None:
    document = pod({GPU: "1"})
    document["spec"]["containers"] = [
        {"name": "a", "resources": {"limits": {GPU: "1", "volcano.sh/vgpu-number": "1"}}},
        {"name": "a-1", "resources": {"limits": {GPU: "1"}}},
    ]
    names = [one["name"] for one in devices_of(converted(document))["requests"]]
    assert names == ["a-2", "a-3", "a-1"]


def test_a_pod_of_somebody_hostile_gets_no_more_warnings_than_anybody_reads() -> None:
    limits = {GPU: "0", **{f"nvidia.com/gpu{number}": "1" for number in range(2000)}}
    document = pod(limits)
    document["spec"]["containers"] = [
        {"name": f"c{number}", "resources": {"limits": {GPU: "0", MEMORY: "1", "nvidia.com/priority": "1"}}}
        for number in range(200)
    ] + [{"name": "main", "resources": {"limits": {**limits, GPU: "1"}}}]
    found = converted(document)
    assert len(found.warnings) == 32
    assert len(devices_of(found)["requests"]) == 1


def test_more_containers_than_any_pod_has_are_not_read() -> None:
    document = pod({GPU: "0"})
    document["spec"]["containers"] = [
        {"name": f"c{number}", "resources": {"limits": {GPU: "0"}}} for number in range(300)
    ]
    with pytest.raises(ConversionError) as refused:
        asked(document)
    assert refused.value.field == "spec.containers[256]"


def test_more_cards_than_a_claim_can_be_given_are_refused_where_they_become_too_many() -> None:
    document = pod({GPU: "16"})
    document["spec"]["containers"] = [
        {"name": f"c{number}", "resources": {"limits": {GPU: "16"}}} for number in range(3)
    ]
    with pytest.raises(ConversionError) as refused:
        asked(document)
    assert refused.value.field == "spec.containers[2]"


def test_more_than_can_be_written_down_is_refused() -> None:
    document = pod({GPU: "1"})
    document["spec"]["initContainers"] = [
        {"name": f"{number}-{'x' * 55}", "resources": {"limits": {GPU: "1"}}} for number in range(220)
    ]
    with pytest.raises(ConversionError) as refused:
        asked(document)
    assert refused.value.reason == "CannotConvert"
    assert "16384" in str(refused.value)


def test_the_names_are_those_of_the_cluster() -> None:
    settings = ConversionSettings(renamed={GPU: "example.com/gpu"}, left_alone=frozenset({"amd.com/gpu"}))
    names = names_of(settings)
    assert {"example.com/gpu", MEMORY} <= names
    assert names.isdisjoint({GPU, "amd.com/gpu", "amd.com/gpumem"})


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"renamed": {"nvidia.com/gpux": "a/b"}}, "renamed"),
        ({"renamed": {GPU: "amd.com/gpu"}}, "renamed"),
        ({"left_alone": frozenset({MEMORY})}, "leftAlone"),
        ({"default_cores": 101}, "defaultCores"),
        ({"default_memory_mib": -1}, "defaultMemory"),
        ({"default_count": 33}, "defaultCount"),
        ({"memory_factors": {MEMORY: 0}}, f"memoryFactors[{MEMORY}]"),
        ({"memory_factors": {GPU: 2}}, "memoryFactors"),
    ],
)
def test_settings_that_make_no_sense_are_refused_when_they_are_made(
    settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ConversionSettings(**settings)
    assert refused.value.field == field


def test_the_stock_is_each_kind_of_card_that_shares_can_be_had_of_once() -> None:
    def card(name: str, **more: Any) -> Card:
        return Card(name=name, vendor="nvidia", model="A", memory_bytes=1 << 30, **more)

    cards = [card("a"), card("b"), card("c", shareable=False), card("d", unpublished="MIG")]
    assert stock_of(cards) == (CardKind(vendor="nvidia", model="A", memory_mib=1024),)
    assert stock_of(cards[2:]) == ()


def test_partitions_that_are_offered_are_of_the_stock_with_the_memory_of_their_card() -> None:
    (card,) = cards_of(STOCK[0], number=1)
    offered, withheld, *_ = partitions_of(card)
    found = stock_of([card, offered, replace(withheld, unpublished="policy")])
    assert found == (
        CardKind(vendor="nvidia", model=card.model, memory_mib=4864, profile="1g.5gb", of_mib=40960),
        STOCK[0],
    )
    assert [kind.called_mib for kind in found] == [5120, 0]
    assert [kind.of_mib for kind in stock_of([offered])] == [0]


def test_percent_becomes_another_amount_when_the_cards_do_and_none_when_they_go() -> None:
    document = pod({GPU: "1", "nvidia.com/gpumem-percentage": "50"})
    stored = after(document, converted(document))
    (template,) = templates_of(stored, settings=SETTINGS, stock=STOCK[:1])
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert [one["capacity"]["requests"]["memory"] for one in request["firstAvailable"]] == ["20Gi"]
    with pytest.raises(ConversionError) as refused:
        templates_of(stored, settings=SETTINGS, stock=())
    assert refused.value.reason == "CardSizesUnknown"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nvidia.com/use-gputype", "H100"),
        ("nvidia.com/nouse-gputype", "nvidia"),
        ("nvidia.com/use-gpuuuid", "GPU-1"),
        ("nvidia.com/nouse-gpuuuid", "GPU-1"),
        ("nvidia.com/vgpu-mode", "mps"),
    ],
)
def test_what_is_wrong_with_a_selector_is_told_of_the_annotation_that_it_comes_from(
    key: str, said: str
) -> None:
    document = pod({GPU: "1", MEMORY: "4k", CORES: "30"}, annotations={key: said})
    path = "spec.spec.devices.requests[0].exactly.selectors[0].cel.expression"
    assert converted(document).in_the_pod(path) == f"metadata.annotations[{key}]"


def test_what_is_wrong_with_an_alternatives_selector_is_told_of_where_that_comes_from() -> None:
    percent = "nvidia.com/gpumem-percentage"
    document = pod({GPU: "1", percent: "50"}, annotations={"nvidia.com/nouse-gpuuuid": "GPU-1"})
    found = converted(document)
    option = "spec.spec.devices.requests[0].firstAvailable[1].selectors"
    assert found.in_the_pod(f"{option}[0].cel.expression") == "metadata.annotations[nvidia.com/nouse-gpuuuid]"
    assert found.in_the_pod(f"{option}[1].cel.expression") == f"spec.containers[0].resources.limits[{GPU}]"


@pytest.mark.parametrize(
    ("word", "models"),
    [
        ("Ascend910B4", ("910B4", "Ascend910B4", "Ascend 910B4")),
        ("Ascend910B4-1", ("910B4-1", "Ascend910B4-1", "Ascend 910B4-1")),
        ("Ascend310P", ("310P3", "Ascend310P3", "Ascend 310P3", "Ascend310P")),
        ("Ascend910C", ("Ascend910", "Ascend910C")),
    ],
)
def test_chips_are_known_however_their_model_is_spelt_and_no_others(
    word: str, models: tuple[str, ...]
) -> None:
    (family,) = (one for one in SETTINGS.catalogue.families if one.count == f"huawei.com/{word}")
    assert {one.lower() for one in models} <= {one.lower() for one in family.entry.models}
    others = [one for one in SETTINGS.catalogue.families if one is not family]
    taken = {model.lower() for one in others for model in one.entry.models}
    assert not {one.lower() for one in models} & taken


def test_a_percent_of_a_small_card_is_never_nothing() -> None:
    document = pod({GPU: "1", "nvidia.com/gpumem-percentage": "1"})
    (request,) = devices_of(
        converted(document, stock=(CardKind(vendor="nvidia", model="A", memory_mib=10),))
    )["requests"]
    assert request["firstAvailable"][0]["capacity"]["requests"] == {"memory": "1Mi"}


def test_a_variable_of_the_container_that_nobody_can_read_here_changes_nothing() -> None:
    document = pod({GPU: "1", CORES: "30"})
    document["spec"]["containers"][0]["env"] = [
        {"name": "GPU_CORE_UTILIZATION_POLICY", "valueFrom": {"fieldRef": {"fieldPath": "a"}}},
        "no variable",
    ]
    assert "config" not in devices_of(converted(document))


def test_a_container_may_ask_for_a_cap_that_a_lone_tenant_goes_beyond() -> None:
    document = pod({GPU: "1", CORES: "30"})
    document["spec"]["containers"][0]["env"] = [{"name": "GPU_CORE_UTILIZATION_POLICY", "value": "default"}]
    (entry,) = devices_of(converted(document))["config"]
    assert entry["opaque"]["parameters"]["corePolicy"] == "default"


def test_init_containers_of_other_policy_have_a_share_of_their_own() -> None:
    document = pod({GPU: "1", CORES: "30"})
    document["spec"]["initContainers"] = [
        {
            "name": "warm",
            "resources": {"limits": {GPU: "1", CORES: "30"}},
            "env": [{"name": "GPU_CORE_UTILIZATION_POLICY", "value": "disable"}],
        }
    ]
    devices = devices_of(converted(document))
    assert [one["name"] for one in devices["requests"]] == ["main", "warm"]
    assert [one["requests"] for one in devices["config"]] == [["warm"]]


@pytest.mark.parametrize("name", ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"])
def test_a_part_of_a_card_beside_what_a_device_plugin_gives_of_that_vendors_is_refused(name: str) -> None:
    with pytest.raises(ConversionError, match="CUDA shows one MIG device and no card beside it") as refused:
        asked(pod({GPU: "1", MEMORY: "4000", name: "1"}))
    assert refused.value.field == f"spec.containers[0].resources.limits[{name}]"
    assert f"what {name} stands for" in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize(
    "containers",
    [
        [{GPU: "1", MEMORY: "4000"}, {"nvidia.com/mig-1g.10gb": "1"}],
        [{GPU: "1", "nvidia.com/mig-1g.10gb": "1"}],
        [{"huawei.com/Ascend910B4": "1", "nvidia.com/mig-1g.10gb": "1"}],
    ],
    ids=["in another container", "a whole card", "another vendor"],
)
def test_other_neighbours_of_a_partition_are_converted(containers: list[dict[str, str]]) -> None:
    document = pod({})
    document["spec"]["containers"] = [
        {"name": f"c{number}", "resources": {"limits": limits}} for number, limits in enumerate(containers)
    ]
    assert asked(document) is not None


def test_a_part_of_a_card_beside_a_partition_by_class_is_refused() -> None:
    document = pod({GPU: "1", MEMORY: "4000", "example.com/slice": "1"})
    with pytest.raises(ConversionError, match=r"what example\.com/slice stands for"):
        asked(
            document,
            class_of=lambda name: "partition.dragoman.dev" if name == "example.com/slice" else "",
        )
