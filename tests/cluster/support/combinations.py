"""Pods whose containers use shares in all sorts of ways, made by hypothesis: the same for the same seed.

Purpose: the limit of a share has to be at the right index for the right card in the right container, however
claims, requests, containers, init containers and cards are combined. Each `Combination` is one that the rules
allow; `objects` writes it as manifests, `expected` says what each container has to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.cluster.support import cards
from tests.cluster.support.api import JSON
from tests.cluster.support.cards import SimulatedCard
from tests.cluster.support.manifests import container, pod, request, template
from tests.cluster.support.probe import Limit

MAX_CONTAINERS = 3
MAX_CLAIMS = 3


@dataclass(frozen=True)
class WantedShare:
    """A share: the card's place in the list, GiB, percent (0 for no cap), and which claim asks for it."""

    card: int
    memory_gib: int
    cores: int
    claim: int


@dataclass(frozen=True)
class Combination:
    """One pod.

    Attributes:
        containers: The shares of each container, in the order in which the container names them.
        init: Whether an init container uses the shares of the first container before it.
        whole_claims: A container that uses all requests of a claim names the claim without a request.
        claims: In which order the pod lists its claims.
    """

    containers: tuple[tuple[WantedShare, ...], ...]
    init: bool
    whole_claims: bool
    claims: tuple[int, ...]

    def objects(self, name: str, *, among: Sequence[SimulatedCard]) -> list[JSON]:
        """The pod and a template for each of its claims."""
        requests: dict[int, list[JSON]] = {}
        owners: dict[int, set[int]] = {}
        for number, shares in enumerate(self.containers):
            for share in shares:
                owners.setdefault(share.claim, set()).add(number)
                requests.setdefault(share.claim, []).append(
                    request(
                        _request(number, share),
                        memory=f"{share.memory_gib}Gi",
                        cores=str(share.cores) if share.cores else None,
                        cel=cards.on(among[share.card]),
                    )
                )
        made = [template(f"{name}-{claim}", *wanted) for claim, wanted in requests.items()]
        containers = [
            container(f"c{number}", *self._uses(number, shares, owners=owners))
            for number, shares in enumerate(self.containers)
        ]
        init = [container("init", *self._uses(0, self.containers[0], owners=owners), args=["--once"])]
        listed = {f"claim-{one}": f"{name}-{one}" for one in self.claims if one in requests}
        return [*made, pod(name, *containers, templates=listed, init=init if self.init else ())]

    def expected(self, *, among: Sequence[SimulatedCard]) -> dict[str, list[Limit]]:
        """What each container has to see, in the order of its view, by the container's name."""
        found = {f"c{number}": _limits(shares, among) for number, shares in enumerate(self.containers)}
        return {**found, "init": found["c0"]} if self.init else found

    def _uses(
        self, number: int, shares: tuple[WantedShare, ...], *, owners: dict[int, set[int]]
    ) -> list[str]:
        uses = []
        for share in shares:
            alone = self.whole_claims and owners[share.claim] == {number}
            uses.append(f"claim-{share.claim}" if alone else f"claim-{share.claim}/{_request(number, share)}")
        return list(dict.fromkeys(uses))


def _request(number: int, share: WantedShare) -> str:
    return f"r{number}-{share.card}"


def _limits(shares: tuple[WantedShare, ...], among: Sequence[SimulatedCard]) -> list[Limit]:
    in_view = sorted(shares, key=lambda share: among[share.card].pci)
    return [Limit(among[share.card].uuid, share.memory_gib * 1024, share.cores or None) for share in in_view]


@st.composite
def _shares(draw: st.DrawFn, *, count: int) -> tuple[WantedShare, ...]:
    order = draw(st.permutations(range(count)))
    return tuple(
        WantedShare(
            card=card,
            memory_gib=draw(st.integers(1, 3)),
            cores=draw(st.integers(0, 3)),
            claim=draw(st.integers(0, MAX_CLAIMS - 1)),
        )
        for card in order[: draw(st.integers(1, count))]
    )


def _combinations(count: int) -> st.SearchStrategy[Combination]:
    return st.builds(
        Combination,
        containers=st.lists(_shares(count=count), min_size=1, max_size=MAX_CONTAINERS).map(tuple),
        init=st.booleans(),
        whole_claims=st.booleans(),
        claims=st.permutations(range(MAX_CLAIMS)).map(tuple),
    )


def generate(number: int, *, of_cards: int, with_seed: int) -> list[Combination]:
    """So many different combinations."""
    found: dict[Combination, None] = {}

    @seed(with_seed)
    @settings(
        max_examples=number * 3,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(one=_combinations(of_cards))
    def collect(one: Combination) -> None:
        found[one] = None

    collect()
    assert len(found) >= number, f"only {len(found)} different combinations of {number}"
    # The first ones that hypothesis makes are the simplest: take from all of them.
    everything = list(found)
    return [everything[index * len(everything) // number] for index in range(number)]
