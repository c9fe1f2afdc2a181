"""An API server that answers from a script: the fake stands at the transport, nothing above it is faked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from driver.kube.client import JSON, AnswerSize, AnswerTooLargeError, ApiError, KubeClient

Step = JSON | ApiError | float
"""One step of a watch: an event, a failure, or seconds to wait."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it was sent."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str


class ScriptedTransport:
    """Answers requests by a function and watches from a list of scripts; a watch beyond the list hangs."""

    def __init__(
        self,
        answer: Callable[[Request], JSON | ApiError],
        *,
        watches: Iterable[Iterable[Step]] = (),
    ) -> None:
        self.requests: list[Request] = []
        self.watched: list[dict[str, str]] = []
        self.closed_watches = 0
        self._answer = answer
        self._watches = [list(script) for script in watches]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        size: AnswerSize | None = None,
    ) -> JSON:
        await asyncio.sleep(0)
        sent = Request(method=method, path=path, query=query or {}, body=body, content_type=content_type)
        self.requests.append(sent)
        answer = self._answer(sent)
        if isinstance(answer, ApiError):
            raise answer
        if size is not None:
            size.read = len(json.dumps(answer))
            if 0 < size.most < size.read:
                raise AnswerTooLargeError("too large", status=0)
        return answer

    async def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> AsyncIterator[JSON]:
        self.watched.append(query)
        script = self._watches.pop(0) if self._watches else [1e9]
        try:
            for step in script:
                if isinstance(step, ApiError):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    await asyncio.sleep(0)
                    yield step
        finally:
            self.closed_watches += 1

    async def close(self) -> None:
        pass

    def writes(self) -> list[Request]:
        """All requests that change something."""
        return [sent for sent in self.requests if sent.method != "GET" and "dryRun" not in sent.query]


def scripted_client(
    answer: Callable[[Request], JSON | ApiError], *, watches: Iterable[Iterable[Step]] = ()
) -> tuple[KubeClient, ScriptedTransport]:
    """A client and the transport below it."""
    transport = ScriptedTransport(answer, watches=watches)
    return KubeClient(transport), transport
