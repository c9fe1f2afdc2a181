"""URLs: Kubernetes' library for them.

Purpose: `url("https://example.com:80/").getHost()`, `isURL(...)`.

Flow: overloads on `driver.cel.values.Url`; reading is in `library.go_urls`.

Limits: as the reference, a URL is first held to what a request may name, then read again with a fragment.
"""

from __future__ import annotations

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.library.go_urls import UrlError, parameters, parse
from driver.cel.values import Url


def _read(text: str) -> int:
    return 2 * costs.READ + len(text)


@overload("url(string) -> url", cost=lambda text: costs.first(text) + 2 * _read(text))
def _url(text: str) -> Url:
    try:
        parse(text, request=True)
        return parse(text, request=False)
    except UrlError as error:
        raise EvaluationError(f"{text[:64]!r} is not a URL: {error}") from None


@overload("isURL(string) -> bool", cost=_read)
def _is_url(text: str) -> bool:
    try:
        parse(text, request=True)
    except UrlError:
        return False
    return True


@overload("getScheme(url) -> string", method=True)
def _scheme(url: Url) -> str:
    return url.scheme


@overload("getHost(url) -> string", method=True)
def _host(url: Url) -> str:
    return url.host


@overload("getHostname(url) -> string", method=True)
def _hostname(url: Url) -> str:
    return url.hostname


@overload("getPort(url) -> string", method=True)
def _port(url: Url) -> str:
    return url.port


@overload("getEscapedPath(url) -> string", method=True)
def _escaped_path(url: Url) -> str:
    return url.escaped_path


def _queried(url: Url) -> int:
    return 1 + 2 * len(url.query)


@overload("getQuery(url) -> map(string, list(string))", method=True, cost=_queried)
def _query(url: Url) -> dict[str, list[str]]:
    return parameters(url.query)
