"""Lists of any length, in pages that fit into memory.

Purpose: an object may be a kilobyte or one and a half MiB, as its author likes, and a page is in memory as a
whole, several times over while it is decoded. Pages bounded by a number of objects alone let a tenant end
whoever lists them.

Flow: `pages` begins with few objects and asks for more as long as pages stay far below `PAGE_BYTES`. A page
that turns out to be larger is not read to its end, and asked for again with fewer objects.

Limits: one object alone is read however large it is. Where a transport does not tell sizes, pages grow to the
number that the caller allows. A list that outlives what the server remembers of it ends with `GoneError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from driver.kube.client import JSON, AnswerSize, AnswerTooLargeError, KubeClient
from driver.kube.resources import Resource

PAGE_BYTES = 4 << 20
"""What a page of several objects may have as JSON; decoding takes some three times as much beside it."""
_FIRST = 10
_GROWTH = 4


async def pages(
    client: KubeClient,
    resource: Resource,
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    most: int = 500,
    page_bytes: int = PAGE_BYTES,
) -> AsyncIterator[JSON]:
    """All pages of a list, as the server answers them.

    A page is in memory until the caller lets go of it: whoever goes on to the next one should `del` it.

    Args:
        client: The API server.
        resource: The kind.
        namespace: A namespace, "" for all.
        label_selector: Only these.
        field_selector: Only these.
        most: Objects in a page.
        page_bytes: What a page of several objects may have.

    Raises:
        GoneError: The server does not remember the list any more.
        ApiError: It did not answer.
    """
    token, limit = "", min(_FIRST, most)
    while True:
        size = AnswerSize(most=page_bytes if limit > 1 else 0)
        try:
            # In a list, so that nothing here holds the page while the caller works on it.
            answer = [
                await client.list_page(
                    resource,
                    namespace=namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=limit,
                    continue_token=token,
                    size=size,
                )
            ]
        except AnswerTooLargeError:
            # Not as many again in this list: small and large objects may take turns.
            most = max(1, limit // 2)
            limit = max(1, limit // _GROWTH)
            continue
        token = str((answer[0].get("metadata") or {}).get("continue") or "")
        number = len(answer[0].get("items") or ())
        yield answer.pop()
        if not token:
            return
        fitting = page_bytes // 2 * number // size.read if size.read and number else most
        limit = max(1, min(limit * _GROWTH, fitting, most))
