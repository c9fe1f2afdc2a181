from __future__ import annotations

from typing import Any

import pytest

from controller.uninstall_check import SHOWN, Hold, Release, holds_of, look, verdict
from driver.kube.client import KubeClient

RELEASE = Release(name="our-release", namespace="our-ns", revision="3")


def _claim(name: str, *drivers: str, pods: tuple[str, ...] = ()) -> dict[str, Any]:
    results = [{"driver": driver, "device": f"card-{index}"} for index, driver in enumerate(drivers)]
    return {
        "metadata": {"namespace": "team", "name": name},
        "status": {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": pod, "uid": pod} for pod in pods],
        },
    }


def test_claims_of_other_drivers_and_unallocated_ones_hold_nothing() -> None:
    pending = {"metadata": {"namespace": "team", "name": "pending"}}
    assert holds_of([_claim("other", "gpu.example.com"), pending, {**pending, "status": {}}]) == []


def test_a_claim_of_two_drivers_is_listed_with_our_cards_and_its_pods() -> None:
    (hold,) = holds_of([_claim("mixed", "gpu.example.com", "dragoman.dev", pods=("a", "b"))])
    assert hold == Hold(claim="team/mixed", devices=("card-1",), consumers=("pods/a", "pods/b"))
    assert str(hold) == "team/mixed holds card-1 (used by pods/a, pods/b)"


def test_two_shares_of_one_card_are_one_card() -> None:
    claim = _claim("twice", "dragoman.dev", "dragoman.dev")
    for result in claim["status"]["allocation"]["devices"]["results"]:
        result["device"] = "card"
    assert holds_of([claim])[0].devices == ("card",)


def test_an_allocation_whose_pods_are_gone_is_still_a_hold() -> None:
    (hold,) = holds_of([_claim("left", "dragoman.dev")])
    assert "no pod any more" in str(hold)


def test_nothing_held_lets_the_uninstall_go_on() -> None:
    assert verdict([], release=RELEASE)[0] == 0


def test_the_refusal_lists_the_claims_and_names_the_command_that_does_it_anyway() -> None:
    status, text = verdict(holds_of([_claim("a", "dragoman.dev", pods=("p",))]), release=RELEASE)
    assert status == 1
    assert "1 claim holds cards" in text
    assert "team/a holds card-0 (used by pods/p)" in text
    assert "helm uninstall our-release --namespace our-ns --no-hooks" in text


def test_the_refusal_says_how_to_go_on_with_a_release_that_helm_marked() -> None:
    _, text = verdict(holds_of([_claim("a", "dragoman.dev")]), release=RELEASE)
    assert "helm rollback our-release 3 --namespace our-ns" in text


def test_a_long_list_is_cut_and_says_so() -> None:
    _, text = verdict(
        holds_of(_claim(f"c{number}", "dragoman.dev") for number in range(SHOWN + 7)), release=RELEASE
    )
    assert text.count(" holds card") == SHOWN
    assert "and 7 more" in text


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_all_pages_are_looked_at() -> None:
    pages: dict[str, Any] = {
        "": {"items": [_claim("first", "dragoman.dev")], "metadata": {"continue": "next"}},
        "next": {"items": [_claim("second", "dragoman.dev")], "metadata": {}},
    }

    class Pages:
        async def request(self, method: str, path: str, *, query: dict[str, str], **_: Any) -> dict[str, Any]:
            assert (method, path) == ("GET", "/apis/resource.k8s.io/v1/resourceclaims")
            assert int(query["limit"]) <= 50, "a claim may have 320 KiB"
            page: dict[str, Any] = pages[query.get("continue", "")]
            return page

    held = await look(KubeClient(Pages()))  # type: ignore[arg-type]
    assert [hold.claim for hold in held] == ["team/first", "team/second"]
