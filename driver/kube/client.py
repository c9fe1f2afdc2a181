"""The API server's verbs that Dragoman needs, as a Protocol, and its refusals as exceptions.

Purpose: controller and agent are written against `KubeClient`; transports implement it; tests implement it
by a function. The seam is the transport (`request`), not the verbs: every verb below is built from it.

Limits: objects are plain JSON dicts, because typed models lose the fields that they do not know (measured),
and an object that passed through one must never be written back.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from driver.errors import KubeError

JSON = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class ApiError(KubeError):
    """The API server answered with an error status.

    Attributes:
        status: HTTP status code; 0 where no answer came.
        kube_reason: Kubernetes' `Status.reason`, such as `NotFound`; "" where there is none.
    """

    reason: ClassVar[str] = "ApiServer"

    def __init__(self, message: str, *, status: int, kube_reason: str = "", body: JSON | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kube_reason = kube_reason
        self.body = body or {}


class NotFoundError(ApiError):
    """404: the object does not exist."""


class ConflictError(ApiError):
    """409: the object changed meanwhile, or exists already."""


class GoneError(ApiError):
    """410: the resourceVersion is too old; list again."""


class ForbiddenError(ApiError):
    """403: RBAC or an admission policy refused."""

    retriable = False


class UnreachableError(ApiError):
    """No answer: connection refused, time-out, broken connection."""


def error_for(status: int, *, message: str, kube_reason: str = "", body: JSON | None = None) -> ApiError:
    """The exception that stands for an HTTP status."""
    kinds: dict[int, type[ApiError]] = {403: ForbiddenError, 404: NotFoundError, 409: ConflictError, 410: GoneError}
    kind = kinds.get(status, UnreachableError if status == 0 else ApiError)
    return kind(message, status=status, kube_reason=kube_reason, body=body)


class Transport(Protocol):
    """One request to the API server; everything else is built on it."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
    ) -> JSON:
        """Sends a request and decodes the JSON answer.

        Raises:
            ApiError: The server answered with a status of 400 or above, or not at all (status 0).
        """

    async def close(self) -> None:
        """Closes connections."""
