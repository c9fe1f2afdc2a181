"""Which cards are held by claims without a shareID."""

from typing import Any

from controller.publishing.unnumbered import Unnumbered, unnumbered_view
from driver.api.share_allocation import config_entry


def claim(*results: dict[str, Any]) -> dict[str, Any]:
    made = [{"driver": "dragoman.dev", "pool": "n1/dragoman", "device": "c-0", **one} for one in results]
    return {"metadata": {"name": "c"}, "status": {"allocation": {"devices": {"results": made}}}}


def test_results_without_a_share_id_are_seen_and_no_others() -> None:
    assert unnumbered_view(claim({}, {"device": "c-1", "shareID": "s"}, {"device": "c-2"})) == (
        ("n1", "c-0", False),
        ("n1", "c-2", False),
    )
    for other in ({"shareID": "s"}, {"driver": "other.example"}, {"adminAccess": True}):
        assert unnumbered_view(claim(other)) is None
    assert unnumbered_view({"metadata": {"name": "c"}}) is None


def test_a_card_counts_until_its_last_claim_is_gone() -> None:
    changed: list[str] = []
    found = Unnumbered(changed.append)
    view = unnumbered_view(claim({}))
    found.note("a", None, view)
    found.note("b", None, view)
    found.note("a", view, None)
    assert found.devices("n1") == {"c-0": 1}
    found.note("b", view, None)
    assert found.devices("n1") == {}
    assert changed == ["n1"] * 4


def test_cards_of_other_nodes_are_not_this_nodes() -> None:
    found = Unnumbered(lambda _node: None)
    found.note("a", None, (("n2", "c-0", True),))
    assert found.devices("n1") == {}


def test_what_kube_scheduler_gave_without_a_share_id_is_told_from_what_we_gave() -> None:
    found = Unnumbered(lambda _node: None)
    ours = claim({})
    ours["status"]["allocation"]["devices"]["config"] = [config_entry([])]
    found.note("a", None, unnumbered_view(ours))
    assert found.not_ours("n1") == frozenset()
    found.note("b", None, unnumbered_view(claim({})))
    assert (found.not_ours("n1"), found.devices("n1")) == (frozenset({"c-0"}), {"c-0": 2})
    found.note("b", unnumbered_view(claim({})), None)
    assert found.not_ours("n1") == frozenset()
