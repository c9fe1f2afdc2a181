"""Selectors that conversion writes: they compile on every release, and mean what the annotation says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cards import DRIVER_NAME, Card
from driver.cel import DeviceView, compile_selector
from driver.cel.environments import RELEASES
from driver.conversion import ConversionError
from driver.slices import publication_of
from tests.driver.conversion.golden_files import files, read
from tests.driver.conversion.pods import asked, devices_of, pod

CARD = Card(
    name="nvidia-1",
    vendor="nvidia",
    model="NVIDIA A100-SXM4-40GB",
    memory_bytes=40 << 30,
    uuid="GPU-1",
    pci_bus_id="0000:3b:00.0",
)
NAMELESS = Card(name="hygon-1", vendor="hygon", model="K100", memory_bytes=1 << 30)


def expressions(devices: dict[str, Any]) -> list[str]:
    return [
        one["cel"]["expression"]
        for request in devices["requests"]
        for option in ([request["exactly"]] if "exactly" in request else request["firstAvailable"])
        for one in option.get("selectors", ())
    ]


GOLDEN = sorted(
    {
        one
        for path in files()
        for template in read(path).get("templates", ())
        for one in expressions(template["spec"]["spec"]["devices"])
    }
)


def holds(text: str, card: Card = CARD, *, release: str = "1.36") -> bool:
    ((device,),) = [one["spec"]["devices"] for one in publication_of([card], node="n").slices]
    selector = compile_selector(text, release=release, stored=False)
    return selector.evaluate(DeviceView.build(device, driver=DRIVER_NAME))


def lets_through(annotations: dict[str, str], card: Card = CARD) -> bool:
    found = asked(pod({"nvidia.com/gpu": "1"}, annotations=annotations))
    assert found is not None
    return all(holds(one, card) for one in expressions(devices_of(found)))


@pytest.mark.parametrize("release", RELEASES)
def test_every_selector_compiles_as_a_new_one_on_every_release(release: str) -> None:
    assert len(GOLDEN) > 20
    for text in GOLDEN:
        compile_selector(text, release=release, stored=False)


def test_no_selector_raises_on_a_card_that_has_no_uuid_and_no_address() -> None:
    for text in GOLDEN:
        assert holds(text, NAMELESS) in (True, False)


@pytest.mark.parametrize(
    ("annotations", "through"),
    [
        ({"nvidia.com/use-gputype": "a100"}, True),
        ({"nvidia.com/use-gputype": "H100, SXM4"}, True),
        ({"nvidia.com/use-gputype": "NVIDIA-NVIDIA A100"}, True),
        ({"nvidia.com/use-gputype": "A100-PCIE"}, False),
        ({"nvidia.com/use-gputype": ""}, True),
        ({"nvidia.com/nouse-gputype": "80gb,40GB"}, False),
        ({"nvidia.com/nouse-gputype": "H100"}, True),
        ({"nvidia.com/nouse-gputype": ","}, True),
        ({"nvidia.com/use-gputype": "A100", "nvidia.com/nouse-gputype": "40GB"}, False),
        ({"nvidia.com/use-gpuuuid": "GPU-0,GPU-1"}, True),
        ({"nvidia.com/use-gpuuuid": "gpu-1"}, False),
        ({"nvidia.com/use-gpuuuid": "GPU-10"}, False),
        ({"nvidia.com/use-gpuuuid": "0000:3B:00.0"}, True),
        ({"nvidia.com/use-gpuuuid": "GPU-7,0000:3b:00.0"}, True),
        ({"nvidia.com/nouse-gpuuuid": "GPU-1"}, False),
        ({"nvidia.com/nouse-gpuuuid": "0000:3b:00.0"}, False),
        ({"nvidia.com/nouse-gpuuuid": "GPU-2"}, True),
        ({"nvidia.com/nouse-gpuuuid": ""}, True),
    ],
)
def test_an_annotation_lets_the_cards_through_that_hami_would(
    annotations: dict[str, str], through: bool
) -> None:
    assert lets_through(annotations) is through


def test_cards_without_a_uuid_are_none_of_those_to_use_nor_of_those_to_avoid() -> None:
    assert not lets_through({"nvidia.com/use-gpuuuid": "GPU-1"}, NAMELESS)
    assert lets_through({"nvidia.com/nouse-gpuuuid": "GPU-1"}, NAMELESS)


TEXTS = st.text(max_size=40) | st.text(alphabet="aA1-\"\\'()|&,\n\t\0{}$", max_size=40)


@settings(max_examples=80, deadline=None)
@given(use=TEXTS, avoid=TEXTS)
def test_whatever_an_annotation_says_it_stays_a_text_that_is_looked_for(use: str, avoid: str) -> None:
    annotations = {"nvidia.com/use-gputype": use, "nvidia.com/nouse-gputype": avoid}
    kind = "NVIDIA-NVIDIA A100-SXM4-40GB".lower()
    wanted = [one.strip() for one in use.split(",") if one.strip()]
    unwanted = [one.strip() for one in avoid.split(",") if one.strip()]

    def within(text: str) -> bool:
        return "".join(one.lower() if one.isascii() else one for one in text) in kind

    expected = (not wanted or any(map(within, wanted))) and not any(map(within, unwanted))
    try:
        assert lets_through(annotations) is expected
    except ConversionError:
        assert any(len(one.encode()) > 64 for one in (*wanted, *unwanted))


@settings(max_examples=60, deadline=None)
@given(use=st.lists(TEXTS, max_size=5))
def test_whatever_uuids_are_named_only_those_are_let_through(use: list[str]) -> None:
    entries = [one.strip() for text in use for one in text.split(",") if one.strip()]
    try:
        through = lets_through({"nvidia.com/use-gpuuuid": ",".join(use)})
    except ConversionError:
        assert not entries or any(len(one.encode()) > 64 for one in entries)
    else:
        assert through is ("GPU-1" in entries)


@pytest.mark.parametrize(
    "text",
    [
        ",".join(f"GPU-{number}" for number in range(65)),
        "x" * 65,
        "," * 10_000,
        ",".join("\x01" * 60 + str(number) for number in range(40)),
        "half a pair \ud800",
    ],
    ids=["many", "long", "very-long", "expression-too-long", "no-unicode"],
)
@pytest.mark.parametrize("key", ["use-gpuuuid", "nouse-gpuuuid", "use-gputype", "nouse-gputype"])
def test_lists_beyond_all_measure_are_refused_by_name(text: str, key: str) -> None:
    with pytest.raises(ConversionError) as refused:
        asked(pod({"nvidia.com/gpu": "1"}, annotations={f"nvidia.com/{key}": text}))
    assert refused.value.reason == "LegacyChoiceInvalid"
    assert refused.value.field == f"metadata.annotations[nvidia.com/{key}]"


def test_the_longest_lists_that_are_taken_compile() -> None:
    names = ",".join(f"{number:02d}" + "a" * 60 for number in range(64))
    found = asked(
        pod(
            {"nvidia.com/gpu": "1"},
            annotations={
                "nvidia.com/use-gpuuuid": names,
                "nvidia.com/nouse-gpuuuid": names,
            },
        )
    )
    assert found is not None
    for text in expressions(devices_of(found)):
        assert len(text) <= 10 * 1024
        assert holds(text) is text.startswith("!")


@pytest.mark.parametrize("said", ["yes", "on"])
def test_a_numa_binding_that_is_neither_true_nor_false_is_told_to_have_no_effect(said: str) -> None:
    found = asked(pod({"nvidia.com/gpu": "2"}, annotations={"nvidia.com/numa-bind": said}))
    assert found is not None
    (told,) = (one for one in found.warnings if "numa-bind" in one)
    assert told.endswith(f"{said!r} is neither true nor false, so it has no effect.")
    assert "matchAttribute" not in str(devices_of(found))


@pytest.mark.parametrize(("said", "bound"), [("True", True), ("1", True), ("0", False), ("", False)])
def test_a_numa_binding_is_read_as_hami_reads_it(said: str, bound: bool) -> None:
    found = asked(pod({"nvidia.com/gpu": "2"}, annotations={"nvidia.com/numa-bind": said}))
    assert found is not None
    assert not found.warnings
    assert ("matchAttribute" in str(devices_of(found))) is bound
