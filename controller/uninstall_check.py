"""Asked by Helm before it removes anything: does any claim still hold one of our cards?

Purpose: without the agent no claim can be unprepared, and its pods would never end; so `helm uninstall` is
refused while claims are allocated, with a list of them. `helm uninstall --no-hooks` does it anyway.

Flow: claims, page by page -> `holds_of` -> `verdict` -> text for a person and the exit status.

Helm marks a release as `uninstalling` before it asks and does not take that back after a no, so the text
also says how to make the release usable again.

Limits: a look at one moment: a claim that is allocated a second later is not seen. Claims whose pods are
gone count too, until Kubernetes has taken their allocation back (seconds).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cards import DRIVER_NAME
from driver.errors import DragomanError
from driver.kube.aiohttp_transport import AiohttpTransport
from driver.kube.client import KubeClient
from driver.kube.config import load_config
from driver.kube.paging import pages
from driver.kube.resources import RESOURCE_CLAIMS

SHOWN = 50
"""So many claims are listed; a longer list helps nobody."""

PAGE = 50
"""Claims that are in memory at a time, at most."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A claim that holds cards of ours.

    Attributes:
        claim: `namespace/name`.
        devices: Names of the cards.
        consumers: `pods/name` of those for whom it is reserved.
    """

    claim: str
    devices: tuple[str, ...]
    consumers: tuple[str, ...]

    def __str__(self) -> str:
        users = ", ".join(self.consumers) or "no pod any more"
        return f"{self.claim} holds {', '.join(self.devices)} (used by {users})"


@dataclass(frozen=True, kw_only=True)
class Release:
    """The Helm release that is asked about: its name, its namespace, and the revision that is installed."""

    name: str
    namespace: str
    revision: str


def holds_of(claims: Iterable[Mapping[str, Any]]) -> list[Hold]:
    """The claims that are allocated a device of ours, whoever allocated it."""
    found = []
    for claim in claims:
        status = claim.get("status") or {}
        results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
        devices = tuple(
            dict.fromkeys(str(one["device"]) for one in results if one.get("driver") == DRIVER_NAME)
        )
        if devices:
            consumers = tuple(f"{one['resource']}/{one['name']}" for one in status.get("reservedFor") or [])
            meta = claim["metadata"]
            found.append(
                Hold(claim=f"{meta['namespace']}/{meta['name']}", devices=devices, consumers=consumers)
            )
    return sorted(found, key=lambda hold: hold.claim)


def verdict(holds: Sequence[Hold], *, release: Release) -> tuple[int, str]:
    """The exit status, and what to tell the person who wants to uninstall."""
    if not holds:
        return 0, f"No claim holds a card of {DRIVER_NAME}."
    lines = [f"{len(holds)} {'claim holds' if len(holds) == 1 else 'claims hold'} cards of {DRIVER_NAME}:"]
    lines += [f"  {hold}" for hold in holds[:SHOWN]]
    if len(holds) > SHOWN:
        lines.append(f"  and {len(holds) - SHOWN} more")
    at = f"{release.name} --namespace {release.namespace}"
    again = f"{release.name} {release.revision} --namespace {release.namespace}"
    lines += [
        "Nothing was removed: without the agents these pods could never end.",
        f"Delete the pods first and uninstall again, or uninstall regardless: helm uninstall {at} --no-hooks",
        f"To keep the release, which Helm marks as uninstalling now: helm rollback {again}",
    ]
    return 1, "\n".join(lines)


async def look(client: KubeClient) -> list[Hold]:
    """All holds in the cluster; no more than one page of claims is in memory at a time."""
    found: list[Hold] = []
    async for page in pages(client, RESOURCE_CLAIMS, most=PAGE):
        found += holds_of(page.get("items") or [])
        del page
    return found


async def _check(environ: Mapping[str, str]) -> tuple[int, str]:
    transport = AiohttpTransport(
        load_config(environ.get("DRAGOMAN_KUBECONFIG", "")), user_agent="dragoman-uninstall"
    )
    try:
        holds = await look(KubeClient(transport))
    finally:
        await transport.close()
    release = Release(
        name=environ.get("DRAGOMAN_RELEASE", "dragoman"),
        namespace=environ.get("DRAGOMAN_RELEASE_NAMESPACE", "default"),
        revision=environ.get("DRAGOMAN_RELEASE_REVISION", "REVISION"),
    )
    return verdict(holds, release=release)


def main() -> None:
    """Exit status: 0 nothing is held, 1 something is, 2 the API server could not be asked."""
    try:
        status, text = asyncio.run(_check(os.environ))
    except DragomanError as failed:
        status, text = (
            2,
            f"It could not be found out whether claims hold cards, so nothing was removed: {failed}",
        )
    print(text, flush=True)  # noqa: T201 - Helm shows the Job's output
    sys.exit(status)


if __name__ == "__main__":
    main()
