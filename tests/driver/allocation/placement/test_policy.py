"""Settings words of placement."""

from typing import Any

import pytest

from driver.allocation.placement import FIRST_FIT, PlacementPolicy, Strategy, Wish
from driver.errors import ConfigError


def test_without_settings_the_policy_is_kube_schedulers_first_fit() -> None:
    assert PlacementPolicy.parse(None) == PlacementPolicy.parse({}) == FIRST_FIT
    assert FIRST_FIT.nodes is FIRST_FIT.cards is Strategy.FIRST_FIT
    assert FIRST_FIT.topology is Wish.NONE


def test_each_word_is_read() -> None:
    policy = PlacementPolicy.parse(
        {
            "nodes": "binpack",
            "cards": "best-fit",
            "topology": "required",
            "topologyAttributes": ["dragoman.dev/links"],
        }
    )
    assert policy == PlacementPolicy(
        nodes=Strategy.BINPACK,
        cards=Strategy.BEST_FIT,
        topology=Wish.REQUIRED,
        topology_attributes=("dragoman.dev/links",),
    )


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ("binpack", "placement"),
        ({"node": "binpack"}, "placement"),
        ({"nodes": "Binpack"}, "placement.nodes"),
        ({"nodes": None}, "placement.nodes"),
        ({"cards": "topology"}, "placement.cards"),
        ({"cards": ["spread"]}, "placement.cards"),
        ({"topology": True}, "placement.topology"),
        ({"topologyAttributes": ["a.b/c"]}, "placement.topologyAttributes"),
        ({"topology": "required", "topologyAttributes": []}, "placement.topologyAttributes"),
        ({"topology": "required", "topologyAttributes": "a.b/c"}, "placement.topologyAttributes"),
        ({"topology": "required", "topologyAttributes": ["numaNode"]}, "placement.topologyAttributes[0]"),
        ({"topology": "required", "topologyAttributes": ["a.b/c", 7]}, "placement.topologyAttributes[1]"),
        ({"topology": "required", "topologyAttributes": ["a/c", "a/c"]}, "placement.topologyAttributes[1]"),
        (
            {"topology": "required", "topologyAttributes": [f"a/c{n}" for n in range(9)]},
            "placement.topologyAttributes",
        ),
    ],
)
def test_what_means_nothing_is_refused_with_its_field_and_a_remedy(settings: Any, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PlacementPolicy.parse(settings)
    assert refused.value.field == field
    assert refused.value.remedy
    assert refused.value.reason == "InvalidConfig"


def test_a_hostile_word_is_not_repeated_at_length() -> None:
    with pytest.raises(ConfigError) as refused:
        PlacementPolicy.parse({"nodes": "x" * 100_000})
    assert len(str(refused.value)) < 300
