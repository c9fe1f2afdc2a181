"""A part of what an informer keeps is a store of its own."""

from __future__ import annotations

from typing import Any

from driver.kube.client import KubeClient
from driver.kube.informer import Informer
from driver.kube.resources import NODES
from driver.kube.store import Part
from tests.support.scripted_api import ScriptedTransport


def numbers() -> tuple[Informer[dict[str, Any]], Part[dict[str, Any], int]]:
    informer: Informer[dict[str, Any]] = Informer(
        KubeClient(ScriptedTransport(lambda _request: {})), NODES, dict
    )
    return informer, Part(informer, lambda document: document.get("number"))


def node(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}, **more}


def test_what_has_no_such_part_is_not_there() -> None:
    informer, part = numbers()
    informer.observe(node("a", 1, number=7))
    part.observe(node("b", 2))
    assert (part.get("a"), part.get("b"), part.get("c")) == (7, None, None)
    assert (part.keys(), list(part.values())) == (["a"], [7])
    assert informer.keys() == ["a", "b"]


def test_a_part_that_comes_and_goes_is_told_and_one_that_never_was_is_not() -> None:
    informer, part = numbers()
    told: list[tuple[str, int | None, int | None]] = []
    part.subscribe(lambda key, before, after: told.append((key, before, after)))
    informer.observe(node("a", 1))
    informer.observe(node("a", 2, number=1))
    informer.observe(node("a", 3))
    assert told == [("a", None, 1), ("a", 1, None)]
