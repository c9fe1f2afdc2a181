"""From characters to tokens.

Purpose: the words of CEL: names, reserved words, numbers, strings in their quotings, operators.

Flow: `tokenize` gives a list that ends with an END token; literals carry their value already.

Limits: the source is at most 10 KiB; numbers outside 64 bits are refused here, with the column. A token is
a plain tuple, since many are made for each expression.
"""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from driver.cel.budget import MAX_SOURCE_BYTES
from driver.cel.errors import InvalidSelectorError
from driver.cel.values import INT_MAX, UINT_MAX, UInt

IDENT, ESCAPED, LITERAL, NUMBER, OPERATOR, END = (
    "identifier",
    "escaped",
    "literal",
    "number",
    "operator",
    "end",
)
Token: TypeAlias = tuple[str, str, object, int]
"""Kind (a constant above), what stands there, value of a literal or name in backquotes, position."""

_RESERVED = """
    as break const continue else for function if import let loop package namespace return var void while
"""
RESERVED = frozenset(_RESERVED.split())
_CONSTANTS: dict[str, object] = {"true": True, "false": False, "null": None}

_ESCAPES = r"""\\(?:[abfnrtv\\'"`?]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"""
_TOKEN = re.compile(
    rf"""
    (?P<ident>[A-Za-z_][A-Za-z0-9_]*(?!["'A-Za-z0-9_]))
  | (?P<space>(?:[\t\n\f\r ]|//[^\n]*)+)
  | (?P<string>(?P<binary>[bB]?)
      (?: (?P<raw>[rR])(?:\"\"\"(?:(?!\"\"\")[\s\S])*\"\"\"|'''(?:(?!''')[\s\S])*'''|"[^"\n\r]*"|'[^'\n\r]*')
        | \"\"\"(?:(?!\"\"\")(?:[^\\]|{_ESCAPES}))*\"\"\"
        | '''(?:(?!''')(?:[^\\]|{_ESCAPES}))*'''
        | "[^"\\\n\r]*(?:{_ESCAPES}[^"\\\n\r]*)*"
        | '[^'\\\n\r]*(?:{_ESCAPES}[^'\\\n\r]*)*'
      ))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
  | (?P<hex>0x[0-9a-fA-F]+)(?P<hexuint>[uU])?
  | (?P<int>[0-9]+)(?P<uint>[uU])?
  | (?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{{}}])
  | `(?P<escaped>[A-Za-z0-9_.\-/ ]+)`
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[abfnrtv\\'"`?])|[xX](?P<hex>[0-9a-fA-F]{2})|u(?P<four>[0-9a-fA-F]{4})"""
    r"""|U(?P<eight>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2}))"""
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def tokenize(source: str) -> list[Token]:
    """Split an expression into tokens.

    Raises:
        InvalidSelectorError: A character, number or string that CEL does not know.
    """
    _check_size(source)
    tokens: list[Token] = []
    add, match = tokens.append, _TOKEN.match
    position, end = 0, len(source)
    while position < end:
        found = match(source, position)
        if found is None:
            raise _unknown(source, position)
        kind = found.lastgroup
        text = found[0]
        if kind == "ident" or kind == "word":  # noqa: PLR1714 - the set would be looked up for each token
            if text in _CONSTANTS:
                add((LITERAL, text, _CONSTANTS[text], position))
            else:
                add((OPERATOR if text == "in" else IDENT, text, None, position))
        elif kind == "operator":
            add((OPERATOR, text, None, position))
        elif kind == "string":
            add((LITERAL, text, _string(source, found), position))
        elif kind == "escaped":
            add((ESCAPED, text, found["escaped"], position))
        elif kind != "space":
            add((NUMBER, text, _number(source, found), position))
        position = found.end()
    add((END, "the end", None, end))
    return tokens


def _check_size(source: str) -> None:
    size = len(source)
    if not source.isascii():
        try:
            size = len(source.encode())
        except UnicodeEncodeError as error:
            raise InvalidSelectorError(
                "half of a surrogate pair is not a character", source=source, position=error.start
            ) from None
    if size > MAX_SOURCE_BYTES:
        raise InvalidSelectorError(
            f"an expression of {size} bytes is too long", remedy=f"Use at most {MAX_SOURCE_BYTES} bytes."
        )


def _unknown(source: str, position: int) -> InvalidSelectorError:
    sign, remedy = source[position], ""
    if sign in "\"'":
        message = "a string is not closed, or has an escape sequence that CEL does not know"
        remedy = 'Write a backslash as "\\\\", or use a raw string such as r"\\d+".'
    else:
        message = f"{sign!r} is not expected here"
        if sign in _REMEDIES:
            remedy = _REMEDIES[sign]
    return InvalidSelectorError(message, source=source, position=position, remedy=remedy)


_REMEDIES = {
    "=": "Compare with ==.",
    "&": "Write && for 'and'.",
    "|": "Write || for 'or'.",
    "`": "A name in backquotes has letters, digits and _ . - / only.",
}


def _number(source: str, found: re.Match[str]) -> object:
    position, text = found.start(), found[0]
    if found["float"] is not None:
        if math.isinf(fraction := float(text)):
            raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
        return fraction
    # Longer ones are out of range anyway, and int() of thousands of digits raises a foreign error.
    digits = found["hex"] or found["int"]
    significant = digits.lstrip("0x") if found["hex"] else digits.lstrip("0")
    number = int(significant or "0", 16 if found["hex"] else 10) if len(significant) <= 64 else UINT_MAX + 1
    if found["uint"] or found["hexuint"]:
        if number > UINT_MAX:
            raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
        return UInt(number)
    # One more than the largest int is left to the parser: with a minus sign it is the smallest.
    if number > INT_MAX + 1:
        raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
    return number


def _string(source: str, found: re.Match[str]) -> str | bytes:
    text, binary, raw = found[0], bool(found["binary"]), bool(found["raw"])
    quoted = text[binary + raw :]
    width = 3 if len(quoted) >= 6 and quoted[:3] == quoted[0] * 3 else 1
    content = quoted[width:-width]
    if "\r" in content:
        content = content.replace("\r\n", "\n").replace("\r", "\n")
    if raw or "\\" not in content:
        return content.encode() if binary else content
    parts: list[bytes] = []
    at = 0
    for escape in _ESCAPE.finditer(content):
        parts.append(content[at : escape.start()].encode())
        parts.append(_unescape(source, escape, binary=binary, position=found.start()))
        at = escape.end()
    parts.append(content[at:].encode())
    joined = b"".join(parts)
    return joined if binary else joined.decode()


def _unescape(source: str, escape: re.Match[str], *, binary: bool, position: int) -> bytes:
    if (plain := escape["plain"]) is not None:
        return _PLAIN.get(plain, plain).encode()
    if escape["hex"] or escape["octal"]:
        code = int(escape["hex"], 16) if escape["hex"] else int(escape["octal"], 8)
        return bytes([code]) if binary else chr(code).encode()
    code = int(escape["four"] or escape["eight"], 16)
    if binary or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise InvalidSelectorError("an escape that is no character", source=source, position=position)
    return chr(code).encode()
