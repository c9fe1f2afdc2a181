"""Which pods name a claim is known at each moment, and forgotten with the last of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.allocating.pod_fit import Amounts
from controller.allocating.pods_of import PodsOf
from controller.allocating.views import PodView

CLAIMS = st.lists(st.sampled_from("abc"), unique=True).map(tuple)
CHANGES = st.lists(st.tuples(st.sampled_from(["ns/p", "ns/q", "ns/r"]), st.none() | CLAIMS), max_size=20)


def view(claims: tuple[str, ...]) -> PodView:
    return PodView(uid="u", node="", asks=Amounts(), claims=claims)


@given(CHANGES)
def test_after_any_changes_the_pods_of_a_claim_are_those_that_name_it(
    changes: list[tuple[str, tuple[str, ...] | None]],
) -> None:
    pods_of, known = PodsOf(), dict[str, PodView]()
    for key, claims in changes:
        before, after = known.get(key), None if claims is None else view(claims)
        pods_of.note(key, before, after)
        if after is None:
            known.pop(key, None)
        else:
            known[key] = after
    for name in "abc":
        assert set(pods_of.of(f"ns/{name}")) == {key for key, one in known.items() if name in one.claims}
    if not any(one.claims for one in known.values()):
        assert pods_of._pods == {}
