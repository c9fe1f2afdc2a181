"""Pages of a list fit into memory, whatever somebody stored."""

from __future__ import annotations

from typing import Any

import pytest

from driver.kube.client import ApiError, error_for
from driver.kube.paging import pages
from driver.kube.resources import PODS
from tests.support.scripted_api import Request, scripted_client

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

BUDGET = 10_000


def served(sizes: list[int]) -> Any:
    """A server of objects of so many characters each; the token is where to go on."""

    def answer(request: Request) -> dict[str, Any] | ApiError:
        first, number = int(request.query.get("continue", "0")), int(request.query["limit"])
        last = min(first + number, len(sizes))
        items = [{"metadata": {"name": str(n)}, "text": "x" * sizes[n]} for n in range(first, last)]
        token = "" if last == len(sizes) else str(last)
        return {"metadata": {"resourceVersion": "1", "continue": token}, "items": items}

    return scripted_client(answer)


async def read(sizes: list[int], **arguments: Any) -> tuple[list[str], list[int], list[int]]:
    """Names in order, bytes of each page that was taken, and the limits that were asked for."""
    client, transport = served(sizes)
    names: list[str] = []
    taken: list[int] = []
    async for page in pages(client, PODS, page_bytes=BUDGET, **arguments):
        names += [one["metadata"]["name"] for one in page["items"]]
        taken.append(sum(len(one["text"]) for one in page["items"]))
    return names, taken, [int(one.query["limit"]) for one in transport.requests]


MIXED = [10] * 300 + [4_000] * 20 + [10] * 300 + [30_000] * 3 + [10] * 50


@pytest.mark.parametrize("sizes", [MIXED, MIXED[::-1], [4_000] * 50, [30_000] * 5, [10, 9_000] * 40])
async def test_no_page_of_several_objects_is_larger_than_its_budget_and_none_is_missed(
    sizes: list[int],
) -> None:
    names, taken, _ = await read(sizes)
    assert names == [str(number) for number in range(len(sizes))]
    assert all(one <= BUDGET or one == 30_000 for one in taken)


async def test_pages_of_small_objects_grow_to_what_the_caller_allows() -> None:
    _, _, limits = await read([1] * 500, most=60)
    assert limits[:3] == [10, 40, 60]
    assert set(limits[2:]) == {60}


async def test_the_first_page_is_no_larger_than_the_caller_allows() -> None:
    _, _, limits = await read([1] * 3, most=1)
    assert limits == [1, 1, 1]


async def test_small_and_large_objects_in_turns_do_not_make_most_requests_vain() -> None:
    sizes = ([10] * 150 + [3_000] * 10) * 10
    _, taken, limits = await read(sizes)
    assert len(limits) - len(taken) <= 8


async def test_nothing_of_a_page_is_kept_while_the_next_one_is_read() -> None:
    client, _ = served([1] * 30)
    reader: Any = pages(client, PODS)
    page = await anext(reader)
    assert len(page["items"]) == 10
    assert not any(value is page or value == [page] for value in reader.ag_frame.f_locals.values())
    await reader.aclose()


async def test_a_refusal_ends_the_list() -> None:
    client, _ = scripted_client(lambda _: error_for(403, message="no"))
    with pytest.raises(ApiError, match="no"):
        await anext(pages(client, PODS))
