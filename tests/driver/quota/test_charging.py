"""What claims are charged, by the cards that the cluster has."""

from __future__ import annotations

from typing import Any

import pytest

from driver.api.share_config import ShareConfig
from driver.cards import Card, Partition
from driver.quota.amounts import NOTHING, Charge
from driver.quota.asks import Ask, ask_of, drivers_of
from driver.quota.charging import Counted, Scope, charge_of, check_known
from driver.quota.errors import QuotaCardsUnknownError
from driver.quota.stock import Stock

NVIDIA, ASCEND, ANY = "nvidia.dragoman.dev", "ascend.dragoman.dev", "accelerator.dragoman.dev"


def card(name: str, *, gib: int, vendor: str = "nvidia", model: str = "M", **more: Any) -> Card:
    return Card(name=name, vendor=vendor, model=model, memory_bytes=gib << 30, **more)


def class_of(name: str, expression: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


def stock_of(*cards: Card) -> Stock:
    stock = Stock(class_is_ours=lambda one: one["metadata"]["name"].endswith(".dragoman.dev"))
    for name, selector in (
        (NVIDIA, 'device.driver == "dragoman.dev" && device.attributes["dragoman.dev"].vendor == "nvidia"'),
        (ASCEND, 'device.driver == "dragoman.dev" && device.attributes["dragoman.dev"].vendor == "ascend"'),
        (ANY, 'device.driver == "dragoman.dev"'),
    ):
        stock.put_class(class_of(name, selector))
    for number, one in enumerate(cards):
        stock.put(f"node-{number}", [one])
    return stock


def option(memory: str = "", cores: str = "", *, cls: str = NVIDIA, **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("memory", memory), ("cores", cores)) if value}
    found: dict[str, Any] = {"deviceClassName": cls, "allocationMode": "ExactCount", "count": 1, **more}
    if requests:
        found["capacity"] = {"requests": requests}
    return found


def claim(*options: dict[str, Any], first: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    requests: list[dict[str, Any]] = [{"name": f"r{n}", "exactly": one} for n, one in enumerate(options)]
    if first:
        subs = [{**one, "name": f"s{n}"} for n, one in enumerate(first)]
        requests.append({"name": "f", "firstAvailable": subs})
    return {"spec": {"devices": {"requests": requests}}}


def counted(
    document: dict[str, Any], stock: Stock, scope: Scope | None = None, *, carried: bool = False
) -> Counted:
    return charge_of(
        ask_of(document, carried=carried), scope=scope or Scope(), stock=stock, given=drivers_of(document)
    )


def charge(document: dict[str, Any], stock: Stock, scope: Scope | None = None, **more: bool) -> Charge:
    return counted(document, stock, scope, **more).charge


A40, A80 = card("a40", gib=40), card("a80", gib=80)


def test_a_share_counts_what_it_asks_for() -> None:
    assert charge(claim(option("4Gi", "30")), stock_of(A40)) == Charge(memory_mib=4096, cores=30, cards=1)


def test_a_share_of_memory_alone_counts_no_compute() -> None:
    assert charge(claim(option("4Gi")), stock_of(A40)) == Charge(memory_mib=4096, cores=0, cards=1)


def test_a_share_without_a_cap_counts_all_compute_where_a_policy_allows_none() -> None:
    capped = card("c", gib=40, allow_uncapped=False)
    assert charge(claim(option("4Gi")), stock_of(capped)).cores == 100


def test_a_share_that_takes_all_memory_of_a_card_counts_all_of_its_compute() -> None:
    assert charge(claim(option("40Gi", "10")), stock_of(A40)).cores == 100


def test_a_request_without_amounts_counts_the_largest_card_that_it_can_get() -> None:
    assert charge(claim(option()), stock_of(A40, A80)) == Charge(memory_mib=80 << 10, cores=100, cards=1)


def test_a_selector_decides_which_cards_a_request_can_get() -> None:
    stock = stock_of(card("t4", gib=16, model="T4"), A80)
    small = option(selectors=[{"cel": {"expression": 'device.attributes["dragoman.dev"].model == "T4"'}}])
    assert charge(claim(small), stock).memory_mib == 16 << 10


def test_a_request_for_compute_alone_counts_a_whole_card() -> None:
    assert charge(claim(option(cores="30")), stock_of(A40)) == Charge(memory_mib=40 << 10, cores=100, cards=1)


def test_count_multiplies_all_amounts() -> None:
    assert charge(claim(option("4Gi", "30", count=3)), stock_of(A40)) == Charge(
        memory_mib=12 << 10, cores=90, cards=3
    )


def test_all_devices_count_as_many_as_a_claim_can_be_given() -> None:
    found = counted(claim(option("4Gi", allocationMode="All", count=0)), stock_of(A40))
    assert (found.charge.cards, found.charge.memory_mib, found.everything) == (32, 128 << 10, "r0")


def test_alternatives_count_the_worst_of_each_amount() -> None:
    first = (option("8Gi", "10"), option("2Gi", "50", count=2))
    assert charge(claim(first=first), stock_of(A40)) == Charge(memory_mib=8192, cores=100, cards=2)


def test_requests_of_a_claim_add_up() -> None:
    document = claim(option("4Gi"), option("2Gi", "20"))
    assert charge(document, stock_of(A40)) == Charge(memory_mib=6144, cores=20, cards=2)


def test_memory_is_rounded_up_to_whole_mib_and_never_lost() -> None:
    assert charge(claim(option("1")), stock_of(A40)).memory_mib == 1
    assert charge(claim(option("1048577")), stock_of(A40)).memory_mib == 2


def test_admin_access_counts_nothing() -> None:
    assert charge(claim(option(adminAccess=True)), stock_of(A40)) == NOTHING


def test_a_card_that_cannot_be_shared_counts_whole() -> None:
    stock = stock_of(card("c", gib=40, shareable=False))
    assert charge(claim(option("1Gi", "10")), stock) == Charge(memory_mib=40 << 10, cores=100, cards=1)


def partition(name: str, *, gib: int, cores: int) -> Card:
    part = Partition(card_uuid="GPU-1", profile=name, exists=True)
    return card(f"nvidia-1-mig-{cores}-0-1", gib=gib, cores=cores, shareable=False, partition=part)


def test_a_partition_counts_its_own_memory_and_compute_and_not_those_of_its_card() -> None:
    stock = stock_of(partition("1g.10gb", gib=10, cores=14), partition("3g.40gb", gib=40, cores=42))
    small = option(
        selectors=[{"cel": {"expression": 'device.attributes["dragoman.dev"].profile == "1g.10gb"'}}]
    )
    assert counted(claim(small), stock).charge == Charge(memory_mib=10 << 10, cores=14, cards=1)
    # Without a selector either may be given.
    assert counted(claim(option()), stock).charge == Charge(memory_mib=40 << 10, cores=42, cards=1)


def test_what_a_quota_says_a_whole_card_counts_is_not_said_of_partitions() -> None:
    stock = stock_of(partition("1g.10gb", gib=10, cores=14))
    found = counted(claim(option()), stock, Scope(whole_card_mib=80 << 10))
    assert found.charge == Charge(memory_mib=10 << 10, cores=14, cards=1)


def test_a_card_that_is_not_offered_cannot_be_got() -> None:
    stock = stock_of(A40, card("c", gib=80, unpublished="MIG mode"))
    assert charge(claim(option()), stock).memory_mib == 40 << 10


def test_a_quota_of_classes_counts_their_requests_only() -> None:
    document = claim(option("4Gi"), option("2Gi", cls=ANY))
    assert charge(document, stock_of(A40), Scope(classes=frozenset({ANY}))).memory_mib == 2048


def test_a_quota_of_a_vendor_counts_what_can_get_its_cards() -> None:
    stock = stock_of(A40, card("n", gib=32, vendor="ascend"))
    scope = Scope(vendors=frozenset({"nvidia"}))
    assert charge(claim(option("4Gi", cls=ASCEND)), stock, scope) == NOTHING
    assert charge(claim(option("4Gi", cls=ANY)), stock, scope).memory_mib == 4096
    assert charge(claim(option(cls=ANY)), stock, scope).memory_mib == 40 << 10


def test_a_vendors_class_is_known_by_its_name_where_there_are_no_cards() -> None:
    scope = Scope(vendors=frozenset({"nvidia"}))
    assert charge(claim(option("4Gi", cls=ASCEND)), stock_of(), scope) == NOTHING
    assert charge(claim(option("4Gi", cls=NVIDIA)), stock_of(), scope).memory_mib == 4096


def test_a_quota_of_models_counts_what_can_get_them() -> None:
    stock = stock_of(card("t4", gib=16, model="Tesla T4"), A80)
    scope = Scope(models=frozenset({"tesla t4"}))
    assert charge(claim(option()), stock, scope).memory_mib == 16 << 10


def test_a_whole_card_of_which_nothing_is_known_is_refused_where_memory_is_limited() -> None:
    found = counted(claim(option()), stock_of())
    check_known(found, limits_memory=False, quota="q")
    with pytest.raises(QuotaCardsUnknownError, match="Ask for an amount of memory"):
        check_known(found, limits_memory=True, quota="q")


def test_a_quota_can_say_what_a_whole_card_counts() -> None:
    scope = Scope(whole_card_mib=1000)
    for stock in (stock_of(), stock_of(A80)):
        found = counted(claim(option()), stock, scope)
        assert (found.charge.memory_mib, found.unknown) == (1000, "")


def test_a_class_of_another_driver_counts_nothing() -> None:
    stock = stock_of(A40)
    stock.put_class(class_of("gpu.example.com", 'device.driver == "gpu.example.com"'))
    assert charge(claim(option(cls="gpu.example.com")), stock) == NOTHING


def test_a_class_of_every_driver_counts_because_it_can_give_a_card_of_ours() -> None:
    stock = stock_of(A40)
    stock.put_class({"metadata": {"name": "anything"}, "spec": {}})
    mine = option(cls="anything", selectors=[{"cel": {"expression": 'device.driver == "dragoman.dev"'}}])
    other = option(cls="anything", selectors=[{"cel": {"expression": 'device.driver == "x.y"'}}])
    assert charge(claim(mine), stock).memory_mib == 40 << 10
    assert charge(claim(other), stock) == NOTHING


def test_a_class_that_is_not_there_counts_since_it_may_be_made_later() -> None:
    assert charge(claim(option("4Gi", cls="later")), stock_of(A40)).memory_mib == 4096


def test_once_a_claim_is_allocated_the_driver_that_gave_devices_decides() -> None:
    stock = stock_of(A40)
    result = {"request": "r0", "driver": "gpu.example.com", "pool": "p", "device": "d"}
    document = claim(option("4Gi", cls="later"))
    document["status"] = {"allocation": {"devices": {"results": [result]}}}
    assert charge(document, stock) == NOTHING
    result["driver"] = "dragoman.dev"
    assert charge(document, stock).memory_mib == 4096


def test_an_allocation_that_gives_nothing_frees_nothing() -> None:
    document = claim(option("4Gi"))
    document["status"] = {"allocation": {"devices": {"results": []}}}
    assert charge(document, stock_of(A40)).memory_mib == 4096


def test_amounts_in_a_share_config_count_only_where_the_allocator_heeds_them() -> None:
    document = claim(option())
    parameters = ShareConfig.model_validate({"capacity": {"requests": {"memory": "1Gi"}}})
    document["spec"]["devices"]["config"] = [
        {
            "opaque": {
                "driver": "dragoman.dev",
                "parameters": parameters.model_dump(mode="json", exclude_none=True),
            }
        }
    ]
    assert charge(document, stock_of(A40), carried=True).memory_mib == 1024
    assert charge(document, stock_of(A40), carried=False).memory_mib == 40 << 10


def test_a_selector_that_raises_is_taken_for_one_that_could_hold() -> None:
    raising = option(selectors=[{"cel": {"expression": 'device.attributes["dragoman.dev"].none == 1'}}])
    assert charge(claim(raising), stock_of(A40, A80)).memory_mib == 80 << 10


def test_a_card_on_which_a_selector_raises_counts_beside_those_for_which_it_holds() -> None:
    stock = stock_of(card("small", gib=16, numa_node=0), card("large", gib=80))
    numa = option(
        selectors=[{"cel": {"expression": 'device.attributes["resource.kubernetes.io"].numaNode == 0'}}]
    )
    assert charge(claim(numa), stock).memory_mib == 80 << 10


def test_a_class_of_every_driver_counts_while_there_are_no_cards_that_it_could_give() -> None:
    stock = stock_of()
    stock.put_class(class_of("everything", "true"))
    stock.put_class(class_of("theirs", 'device.driver == "gpu.example.com"'))
    assert charge(claim(option("4Gi", "30", cls="everything")), stock).cards == 1
    assert charge(claim(option("4Gi", "30", cls="theirs")), stock) == NOTHING


@pytest.mark.parametrize(
    "spec",
    [None, 7, {}, {"devices": 3}, {"devices": {"requests": [None, {}, {"name": "x", "exactly": 4}]}}],
)
def test_what_no_api_server_stores_is_read_without_raising(spec: Any) -> None:
    assert ask_of({"spec": spec}, carried=True) == Ask()


def test_amounts_that_cannot_be_read_count_a_whole_card() -> None:
    assert charge(claim(option("much")), stock_of(A40)).memory_mib == 40 << 10


def test_equal_claims_ask_for_equal_things() -> None:
    asks = [ask_of(claim(option("4Gi", "30")), carried=False) for _ in range(2)]
    assert asks[0] == asks[1]
    assert hash(asks[0]) == hash(asks[1])


def test_the_stock_tells_when_an_answer_may_have_changed() -> None:
    stock = stock_of(A40)
    before = stock.version
    stock.put("node-0", [A40])
    stock.put_class(class_of(ANY, 'device.driver == "dragoman.dev"'))
    assert stock.version == before
    stock.put("node-0", [A80])
    assert stock.version > before
    assert charge(claim(option()), stock).memory_mib == 80 << 10
    stock.remove("node-0")
    assert counted(claim(option()), stock).unknown == "r0"


def test_devices_of_a_slice_count_like_cards() -> None:
    stock = stock_of()
    device = {
        "name": "d",
        "allowMultipleAllocations": True,
        "attributes": {"vendor": {"string": "nvidia"}},
        "capacity": {"memory": {"value": "16Gi"}, "cores": {"value": "100"}},
    }
    stock.put_devices("slice", [device])
    stock.put_devices("other", [device], driver="gpu.example.com")
    assert charge(claim(option()), stock).memory_mib == 16 << 10


def test_a_claim_of_very_many_selectors_costs_little_and_counts_rather_more() -> None:
    stock = stock_of(A40, A80)
    model = 'device.attributes["dragoman.dev"].model'
    # None of them holds for any card, but only the first are looked at.
    many = [{"cel": {"expression": f'{model} != "{n}" && {"x" * 200}_{n} == 1'}} for n in range(32)]
    options = tuple(option(selectors=many[n:]) for n in range(8))
    assert charge(claim(*options), stock).memory_mib == 8 * (80 << 10)
    picks_small = {
        "cel": {"expression": 'device.capacity["dragoman.dev"].memory.isLessThan(quantity("41Gi"))'}
    }
    assert charge(claim(option(selectors=[picks_small])), stock).memory_mib == 40 << 10
