"""Why there is no answer, in one sentence with a remedy."""

from __future__ import annotations

from http import HTTPStatus

from controller.cli.screen import clean
from driver.errors import DragomanError
from driver.kube.client import ApiError, UnreachableError

_MAX = 700


def sentence(failed: DragomanError) -> str:
    """What a person has to know about a failure."""
    text = clean(str(failed))
    if len(text) > _MAX:
        text = f"{text[: _MAX - 1]}…"
    if isinstance(failed, UnreachableError):
        return f"{text} Look at the network, or choose another cluster with --context or --kubeconfig."
    if isinstance(failed, ApiError) and failed.status == HTTPStatus.UNAUTHORIZED:
        return f"{text} The credentials may have expired: log in again, or choose another --context."
    if isinstance(failed, ApiError) and failed.status == HTTPStatus.FORBIDDEN:
        return f"{text} Ask whoever runs the cluster for this right, or choose another --context."
    if isinstance(failed, ApiError) and failed.status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"{text} The API server is busy: try again."
    return text
