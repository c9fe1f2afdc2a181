"""Which DeviceClasses are ours."""

from typing import Any

import pytest

from controller.explaining.classes import implies_our_driver, is_ours


def device_class(name: str = "gpus", *, labels: Any = None, selectors: Any = ()) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"selectors": [{"cel": {"expression": one}} for one in selectors]},
    }


@pytest.mark.parametrize(
    "expression",
    [
        'device.driver == "dragoman.dev"',
        "'dragoman.dev' == device.driver",
        'device.driver == "dragoman.dev" && device.attributes["dragoman.dev"].vendor == "nvidia"',
        'device.attributes["dragoman.dev"].vendor == "amd" && (device.driver == "dragoman.dev")',
        '(device.driver == "dragoman.dev" && 1 == 1) || (device.driver == "dragoman.dev" && 2 == 2)',
    ],
)
def test_a_selector_that_holds_only_for_our_driver_is_recognised(expression: str) -> None:
    assert implies_our_driver(expression)
    assert is_ours(device_class(selectors=["true", expression]))


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        'device.driver != "dragoman.dev"',
        'device.driver == "gpu.nvidia.com"',
        'device.driver == "dragoman.dev" || device.driver == "gpu.nvidia.com"',
        '!(device.driver == "dragoman.dev")',
        'has(device.driver) && "dragoman.dev" == "dragoman.dev"',
        "device.driver == ",
        "",
        "(" * 3000,
    ],
)
def test_a_selector_that_may_hold_for_others_is_not(expression: str) -> None:
    assert not implies_our_driver(expression)
    assert not is_ours(device_class(selectors=[expression]))


def test_the_label_makes_a_class_ours() -> None:
    assert is_ours(device_class(labels={"dragoman.dev/driver": "true"}))
    assert not is_ours(device_class(labels={"dragoman.dev/driver": "false"}))


def test_the_names_that_the_chart_uses_are_ours() -> None:
    assert is_ours(device_class("nvidia.dragoman.dev"))
    assert not is_ours(device_class("gpu.nvidia.com"))
