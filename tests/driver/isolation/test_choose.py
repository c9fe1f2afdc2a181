from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from driver.api.share_config import CorePolicy, MinimumIsolation, OnUnavailable, ShareConfig
from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.choose import (
    Chosen,
    MinimumIsolationError,
    choose_methods,
    core_policy_of,
    edits_for,
    levels_for,
)
from driver.isolation.none import NoIsolation
from driver.isolation.preload import PreloadLibraryMissingError
from driver.shares import Share
from tests.support.folder_host import FolderHost

HARDWARE, KERNEL, SERVICE, PRELOAD, NONE = IsolationLevel
CARD = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34)
SHARE = Share(claim_uid="uid-1", request="gpu", device="nvidia-1", memory_mib=4096, cores_percent=30)
HOST = FolderHost(Path("/nowhere"))
BOTH = Availability(memory=True, cores=True)
MISSING = Availability(
    memory=False,
    cores=False,
    reason="The library is missing.",
    refusal=PreloadLibraryMissingError,
    remedy="Install it.",
)


@dataclass
class Method:
    """A method whose availability the test decides, and which says what it was asked to hold."""

    level: IsolationLevel
    availability: Availability = BOTH
    contexts: list[ShareContext] = field(default_factory=list)

    def available(self, *, card: Card, host: Host) -> Availability:
        return self.availability

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        self.contexts.append(context)
        return ContainerEdits(env={f"HELD_BY_{self.level.upper()}": str(context.index)})

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        return InForce(holds=True, message="")

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        return

    def claims(self, *, host: Host) -> frozenset[str]:
        return frozenset()

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        return


def methods(*found: Method) -> dict[IsolationLevel, Method | NoIsolation]:
    return {NONE: NoIsolation(), **{method.level: method for method in found}}


def choose(
    *found: Method,
    share: Share = SHARE,
    config: ShareConfig | None = None,
    order: tuple[IsolationLevel, ...] = (KERNEL, PRELOAD),
    card: Card = CARD,
) -> Chosen:
    return choose_methods(
        share, card=card, config=config or ShareConfig(), order=order, methods=methods(*found), host=HOST
    )


def config(
    *,
    memory: IsolationLevel | None = None,
    cores: IsolationLevel | None = None,
    open_: bool = False,
    policy: CorePolicy = CorePolicy.FORCE,
) -> ShareConfig:
    base = ShareConfig()
    return base.model_copy(
        update={
            "minimum_isolation": MinimumIsolation().model_copy(update={"memory": memory, "cores": cores}),
            "on_unavailable": OnUnavailable.FAIL_OPEN if open_ else OnUnavailable.FAIL_CLOSED,
            "core_policy": policy,
        }
    )


def test_the_first_available_method_of_the_order_holds_both_dimensions() -> None:
    assert choose(Method(KERNEL), Method(PRELOAD)) == Chosen(memory=KERNEL, cores=KERNEL)
    assert choose(Method(KERNEL), Method(PRELOAD), order=(PRELOAD, KERNEL)).memory is PRELOAD


def test_the_two_dimensions_may_be_held_by_different_methods() -> None:
    kernel = Method(KERNEL, Availability(memory=True, cores=False, reason="No cap."))
    assert choose(kernel, Method(PRELOAD)) == Chosen(memory=KERNEL, cores=PRELOAD)


def test_a_method_that_the_order_leaves_out_is_not_used() -> None:
    with pytest.raises(IsolationError, match="no method of the policy's order"):
        choose(Method(PRELOAD), order=(KERNEL,))


def test_a_whole_card_without_a_cap_needs_no_method() -> None:
    share = replace(SHARE, whole=True, cores_percent=0)
    assert choose(share=share) == Chosen(memory=None, cores=None)


def test_a_cap_that_its_author_disabled_needs_no_method() -> None:
    found = choose(Method(PRELOAD), config=config(policy=CorePolicy.DISABLE))
    assert found == Chosen(memory=PRELOAD, cores=None)


def test_a_limited_share_is_refused_by_the_name_that_the_method_gives() -> None:
    with pytest.raises(
        PreloadLibraryMissingError, match=r"memory limit of request gpu.*library is missing"
    ) as refused:
        choose(Method(PRELOAD, MISSING))
    assert refused.value.remedy == "Install it."


def test_a_share_that_asks_for_more_than_there_is_is_refused() -> None:
    with pytest.raises(MinimumIsolationError, match="kernel or stronger; this node has preload") as refused:
        choose(Method(PRELOAD), config=config(memory=KERNEL))
    assert refused.value.field == "minimumIsolation.memory"


def test_a_minimum_skips_weaker_methods_that_come_first() -> None:
    found = choose(Method(KERNEL), Method(PRELOAD), order=(PRELOAD, KERNEL), config=config(memory=SERVICE))
    assert found == Chosen(memory=KERNEL, cores=PRELOAD)


def test_a_minimum_for_compute_does_not_concern_memory() -> None:
    with pytest.raises(MinimumIsolationError) as refused:
        choose(Method(PRELOAD), config=config(cores=HARDWARE))
    assert refused.value.field == "minimumIsolation.cores"


def test_a_share_that_fails_open_runs_with_nothing_and_a_warning_for_each_dimension() -> None:
    found = choose(Method(PRELOAD, MISSING), config=config(open_=True))
    assert (found.memory, found.cores) == (NONE, NONE)
    assert [text.split(":")[0] for text in found.warnings] == [
        "Nothing holds the memory limit of request gpu",
        "Nothing holds the cap on compute of request gpu",
    ]


def test_a_share_that_fails_open_is_still_held_by_the_weaker_method() -> None:
    found = choose(Method(PRELOAD), config=config(memory=KERNEL, open_=True))
    assert (found.memory, found.cores) == (PRELOAD, PRELOAD)
    assert "held by preload only" in found.warnings[0]


def test_a_cap_does_not_fail_open_where_the_policy_refuses_uncapped_shares() -> None:
    strict = replace(CARD, allow_uncapped=False)
    kernel = Method(KERNEL, Availability(memory=True, cores=False, reason="No cap."))
    with pytest.raises(IsolationError, match="cap on compute"):
        choose(kernel, config=config(open_=True), card=strict)
    whole = replace(SHARE, whole=True)
    assert choose(kernel, share=whole, config=config(open_=True), card=strict).cores is NONE


def test_a_policy_that_names_none_lets_shares_run_with_a_warning() -> None:
    found = choose(Method(PRELOAD, MISSING), order=(PRELOAD, NONE))
    assert found.memory is NONE
    assert "the policy names the method none" in found.warnings[0]


def test_none_is_not_enough_for_a_share_with_a_minimum() -> None:
    with pytest.raises(MinimumIsolationError):
        choose(order=(NONE,), config=config(memory=PRELOAD))


def test_what_is_published_is_the_first_available_method_for_each_dimension() -> None:
    kernel = Method(KERNEL, Availability(memory=True, cores=False))
    found = levels_for(CARD, order=(KERNEL, PRELOAD), methods=methods(kernel, Method(PRELOAD)), host=HOST)
    assert found == (KERNEL, PRELOAD)


def test_a_card_that_nothing_can_hold_is_published_with_none() -> None:
    found = levels_for(CARD, order=(PRELOAD,), methods=methods(Method(PRELOAD, MISSING)), host=HOST)
    assert found == (NONE, NONE)


def edits(chosen: Chosen, *found: Method) -> ContainerEdits:
    return edits_for(
        SHARE, card=CARD, chosen=chosen, index=2, core_policy="force", methods=methods(*found), host=HOST
    )


def test_the_edits_of_all_methods_that_hold_something_are_added_up() -> None:
    kernel, preload = Method(KERNEL), Method(PRELOAD)
    found = edits(Chosen(memory=KERNEL, cores=PRELOAD), kernel, preload)
    assert found.env == {"HELD_BY_KERNEL": "2", "HELD_BY_PRELOAD": "2"}
    assert [(c.holds_memory, c.holds_cores) for c in kernel.contexts + preload.contexts] == [
        (True, False),
        (False, True),
    ]


def test_one_method_that_holds_both_dimensions_is_asked_once() -> None:
    preload = Method(PRELOAD)
    edits(Chosen(memory=PRELOAD, cores=PRELOAD), preload)
    assert [(c.holds_memory, c.holds_cores) for c in preload.contexts] == [(True, True)]


def test_a_share_that_nothing_holds_has_no_edits() -> None:
    assert edits(Chosen(memory=NONE, cores=None)) == ContainerEdits()


def test_the_method_none_never_says_that_a_limit_holds() -> None:
    context = ShareContext(
        card=CARD, index=0, core_policy="force", claim_uid="u", holds_memory=True, holds_cores=True
    )
    method = NoIsolation()
    assert method.edits(SHARE, context=context, host=HOST) == ContainerEdits()
    assert not method.in_force(SHARE, context=context, host=HOST, pid=1).holds
    method.undo(SHARE, context=None, host=HOST)


def test_a_cap_that_holds_while_others_compute_needs_a_method() -> None:
    found = choose(Method(PRELOAD), config=config(policy=CorePolicy.DEFAULT))
    assert found.cores is PRELOAD


@pytest.mark.parametrize(
    ("said", "allow_uncapped", "becomes"),
    [
        (CorePolicy.DEFAULT, True, CorePolicy.DEFAULT),
        (CorePolicy.DEFAULT, False, CorePolicy.FORCE),
        (CorePolicy.FORCE, False, CorePolicy.FORCE),
    ],
)
def test_a_policy_that_wants_caps_lets_nobody_go_of_one(
    said: CorePolicy, allow_uncapped: bool, becomes: CorePolicy
) -> None:
    card = replace(CARD, allow_uncapped=allow_uncapped)
    assert core_policy_of(config(policy=said), card=card) is becomes
