"""Reading URLs as Go's `net/url` does.

Purpose: `url()`, `isURL()` and the format `uri` agree with the reference about every string.

Flow: `parse` follows RFC 3986 with Go's leniencies; it works on bytes, since escapes may stand for any.

Limits: a part whose escapes are no UTF-8 shows U+FFFD for each byte that is wrong.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from driver.cel.values import Url

_ALWAYS = string.ascii_letters + string.digits + "-_.~"


def _table(also: str) -> frozenset[int]:
    return frozenset((_ALWAYS + also).encode())


# What stands for itself, by the part of a URL.
_PATH = _table("$&+,/:;=@")
_HOST = _table("!$&'()*+,;=:[]<>\"")
_USER = _table("$&+,;=")
_FRAGMENT = _table("$&+,/:;=?@!()*")
_ALSO_VALID = frozenset(b"!$&'()*+,;=:@[]%")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):")
_PORT = re.compile(rb"(?::[0-9]*)?")
_USERINFO = re.compile(rb"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
_MOST_PARAMETERS = 10_000


class UrlError(Exception):
    """A string that is no URL."""


def parse(text: str, *, request: bool) -> Url:
    """Read a URL.

    Args:
        text: The string.
        request: Whether it stands where a request names its target: absolute, and `#` is no fragment.

    Raises:
        UrlError: It is none.
    """
    raw = text.encode()
    fragment = b""
    if not request:
        raw, _, fragment = raw.partition(b"#")
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise UrlError("net/url: invalid control character in URL")
    if not raw and request:
        raise UrlError("empty url")
    if raw == b"*":
        return _made(b"", path=b"*", escaped=b"*", fragment=fragment)
    return _absolute(raw, fragment, request=request)


def _absolute(raw: bytes, fragment: bytes, *, request: bool) -> Url:
    if raw.startswith(b":"):
        raise UrlError("missing protocol scheme")
    found = _SCHEME.match(raw)
    scheme = found[1].lower() if found is not None else b""
    rest = raw[found.end() :] if found is not None else raw
    forced = rest.endswith(b"?") and rest.count(b"?") == 1
    rest, _, query = rest.partition(b"?")
    if not rest.startswith(b"/"):
        if scheme:
            return _made(scheme, opaque=rest, query=query, forced=forced, fragment=fragment)
        if request:
            raise UrlError("invalid URI for request")
        if b":" in rest.partition(b"/")[0]:
            raise UrlError("first path segment in URL cannot contain colon")
    host, user = b"", None
    omitted = False
    if rest.startswith(b"//") and (scheme or not (request or rest.startswith(b"///"))):
        authority, slash, rest = rest[2:].partition(b"/")
        rest = slash + rest
        user, host = _authority(scheme, authority)
    elif scheme and rest.startswith(b"/"):
        omitted = True
    path = _unescape(rest)
    return _made(
        scheme,
        host=host,
        user=user,
        path=path,
        escaped=_escaped_path(rest, path),
        query=query,
        forced=forced,
        fragment=fragment,
        omitted=omitted,
    )


def _escaped_path(written: bytes, path: bytes) -> bytes:
    escaped = _escape(path, _PATH)
    if written != escaped and all(byte in _PATH or byte in _ALSO_VALID for byte in written):
        return written
    return path if path == b"*" else escaped


def _authority(scheme: bytes, authority: bytes) -> tuple[bytes | None, bytes]:
    userinfo, at, host = authority.rpartition(b"@")
    host = _host(scheme, host)
    if not at:
        return None, host
    if not _USERINFO.fullmatch(userinfo):
        raise UrlError("net/url: invalid userinfo")
    name, colon, password = userinfo.partition(b":")
    return _escape(_unescape(name), _USER) + colon + _escape(_unescape(password), _USER), host


def _host(scheme: bytes, host: bytes) -> bytes:
    bracket = host.rfind(b"[")
    if bracket > 0:
        raise UrlError("invalid IP-literal")
    if bracket == 0:
        return _literal(host)
    first, last = host.find(b":"), host.rfind(b":")
    if first >= 0:
        # Databases write lists of hosts with ports; Go allows that where the scheme is not HTTP.
        colon = first if scheme in {b"http", b"https"} else last
        _require_port(host[colon:])
    return _unescape_host(host)


def _require_port(port: bytes) -> None:
    if not _PORT.fullmatch(port):
        raise UrlError(f'invalid port "{_text(port)}" after host')


def _literal(host: bytes) -> bytes:
    end = host.rfind(b"]")
    if end < 0:
        raise UrlError("missing ']' in host")
    port = host[end + 1 :]
    _require_port(port)
    name = host[1:end]
    zone = name.find(b"%25")
    zone = len(name) if zone < 0 else zone
    name = _unescape_host(name[:zone]) + _unescape_zone(name[zone:])
    address, percent, scope = name.partition(b"%")
    try:
        IPv6Address(address.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        raise UrlError(_not_literal(address)) from None
    if percent and not scope:
        raise UrlError("invalid host: zone must be a non-empty string")
    return b"[" + name + b"]" + port


def _not_literal(address: bytes) -> str:
    try:
        IPv4Address(address.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        return "invalid host: not an IPv6 address"
    return "invalid IP-literal"


def _made(
    scheme: bytes,
    *,
    host: bytes = b"",
    user: bytes | None = None,
    path: bytes = b"",
    escaped: bytes = b"",
    opaque: bytes = b"",
    query: bytes = b"",
    forced: bool = False,
    fragment: bytes = b"",
    omitted: bool = False,
) -> Url:
    text = scheme + b":" if scheme else b""
    if opaque:
        text += opaque
    else:
        named = scheme or host or user is not None
        if named and not (omitted and not host and user is None) and (host or path or user is not None):
            text += b"//"
        if user is not None:
            text += user + b"@"
        text += _escape(host, _HOST)
        if escaped and not escaped.startswith(b"/") and host:
            text += b"/"
        if not text and b":" in escaped.partition(b"/")[0]:
            text += b"./"
        text += escaped
    if forced or query:
        text += b"?" + query
    if fragment:
        text += b"#" + _escaped_fragment(fragment)
    hostname, port = _split_port(host)
    return Url(
        scheme=_text(scheme),
        host=_text(host),
        hostname=_text(hostname),
        port=_text(port),
        escaped_path=_text(escaped),
        query=_text(query),
        text=_text(text),
    )


def _escaped_fragment(written: bytes) -> bytes:
    fragment = _unescape(written)
    escaped = _escape(fragment, _FRAGMENT)
    if written != escaped and all(byte in _FRAGMENT or byte in _ALSO_VALID for byte in written):
        return written
    return escaped


def _split_port(host: bytes) -> tuple[bytes, bytes]:
    port = b""
    colon = host.rfind(b":")
    if colon >= 0 and _PORT.fullmatch(host[colon:]):
        host, port = host[:colon], host[colon + 1 :]
    if host.startswith(b"[") and host.endswith(b"]"):
        host = host[1:-1]
    return host, port


def parameters(query: str) -> dict[str, list[str]]:
    """Read the parameters of a query; what is malformed is left out."""
    raw = query.encode()
    result: dict[str, list[str]] = {}
    if raw.count(b"&") + 1 > _MOST_PARAMETERS:
        return result
    for pair in raw.split(b"&"):
        if not pair or b";" in pair:
            continue
        name, _, value = pair.partition(b"=")
        try:
            name, value = (_unescape(part.replace(b"+", b" ")) for part in (name, value))
        except UrlError:
            continue
        result.setdefault(_text(name), []).append(_text(value))
    return result


def _unescape(raw: bytes) -> bytes:
    _require_escapes(raw)
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)


def _require_escapes(raw: bytes) -> None:
    place = raw.find(b"%")
    while place >= 0:
        if not _ESCAPE.match(raw, place):
            raise UrlError(f'invalid URL escape "{_text(raw[place : place + 3])}"')
        place = raw.find(b"%", place + 3)


def _unescape_host(raw: bytes) -> bytes:
    # Escapes stand for bytes that are not ASCII only, and for the percent sign of a zone.
    return _unescape_checked(raw, lambda byte: byte >= 0x80)


def _unescape_zone(raw: bytes) -> bytes:
    return _unescape_checked(raw, lambda byte: byte == 0x20 or byte in _HOST)


def _unescape_checked(raw: bytes, allowed: Callable[[int], bool]) -> bytes:
    _require_escapes(raw)
    for found in _ESCAPE.finditer(raw):
        if found[0] != b"%25" and not allowed(int(found[1], 16)):
            raise UrlError(f'invalid URL escape "{_text(found[0])}"')
    for byte in _ESCAPE.sub(b"", raw):
        if byte < 0x80 and byte not in _HOST:
            raise UrlError(f'invalid character "{chr(byte)}" in host name')
    return _unescape(raw)


def _escape(raw: bytes, plain: frozenset[int]) -> bytes:
    return b"".join(bytes([byte]) if byte in plain else b"%%%02X" % byte for byte in raw)


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "surrogateescape")
    return text if text.isascii() else re.sub("[\udc80-\udcff]", "\ufffd", text)
