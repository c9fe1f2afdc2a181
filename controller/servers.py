"""The API servers of the cluster, one by one.

Purpose: who asks the Service `kubernetes` is answered by any of them, and during an upgrade they differ in
what they keep. So what is to hold of all of them is asked of each.

Flow: each API server keeps its address in the EndpointSlice `kubernetes` of namespace `default`; `others`
gives a client for each address, with the certificates and the token that the first one has.

Limits: nothing is said where there is one server only, where the slice cannot be read, or where a server has
itself left out of it (`--endpoint-reconciler-type=none`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import structlog

from driver.kube.aiohttp_transport import AiohttpTransport
from driver.kube.client import ApiError, KubeClient
from driver.kube.config import ClusterConfig
from driver.kube.resources import ENDPOINT_SLICES

Connect = Callable[[str], AbstractAsyncContextManager[KubeClient]]
"""A client of the API server with a URL."""
_MOST = 16

_log = structlog.get_logger("mode")


class Servers:
    """Finds the API servers."""

    def __init__(self, client: KubeClient, connect: Connect) -> None:
        """Prepares; asks nothing yet.

        Args:
            client: Whichever answers.
            connect: Reaches a certain one.
        """
        self.connect = connect
        self._client = client
        self._unreadable = False

    async def urls(self) -> list[str]:
        """Their URLs where there are several; none where there is one, or they are not known."""
        try:
            found = await self._client.get(ENDPOINT_SLICES, "kubernetes", namespace="default")
        except ApiError as failed:
            if not self._unreadable:
                _log.warning("API servers are not known one by one", error=str(failed))
            self._unreadable = True
            return []
        self._unreadable = False
        port = next((one["port"] for one in found.get("ports") or [] if one.get("port")), 443)
        addresses = {one for each in found.get("endpoints") or [] for one in each.get("addresses") or []}
        urls = [f"https://{f'[{one}]' if ':' in one else one}:{port}" for one in sorted(addresses)]
        return urls[:_MOST] if len(urls) > 1 else []


def connecting(config: ClusterConfig, *, user_agent: str) -> Connect:
    """Reaches servers by what is known of one of them; their certificates have to be for its name as well."""

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[KubeClient]:
        name = config.verify_as or urlsplit(config.server).hostname or ""
        transport = AiohttpTransport(replace(config, server=url, verify_as=name), user_agent=user_agent)
        try:
            yield KubeClient(transport)
        finally:
            await transport.close()

    return connect
