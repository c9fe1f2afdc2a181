"""Which cards are held by claims without a shareID."""

from typing import Any

from controller.publishing.unnumbered import Unnumbered, unnumbered_view


def claim(*results: dict[str, Any]) -> dict[str, Any]:
    made = [{"driver": "dragoman.dev", "pool": "n1/dragoman", "device": "c-0", **one} for one in results]
    return {"metadata": {"name": "c"}, "status": {"allocation": {"devices": {"results": made}}}}


def test_results_without_a_share_id_are_seen_and_no_others() -> None:
    assert unnumbered_view(claim({}, {"device": "c-1", "shareID": "s"}, {"device": "c-2"})) == (
        ("n1", "c-0"),
        ("n1", "c-2"),
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
    found.note("a", None, (("n2", "c-0"),))
    assert found.devices("n1") == {}
