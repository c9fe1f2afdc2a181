"""From characters to tokens.

Purpose: the words of CEL: names, reserved words, numbers, strings in their six quotings, operators.

Flow: `tokenize` gives a list that ends with an END token; literals carry their value already.

Limits: the source is at most 10 KiB; numbers outside 64 bits are refused here, with the column.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

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

_RESERVED = """
    as break const continue else for function if import let loop package namespace return var void while
"""
RESERVED = frozenset(_RESERVED.split())
_CONSTANTS: dict[str, object] = {"true": True, "false": False, "null": None}

_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r ]+|//[^\n]*)
  | (?P<string>(?P<prefix>[rR][bB]?|[bB][rR]?)?(?P<quote>\"\"\"|'''|"|'))
  | (?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
  | (?P<hex>0x[0-9a-fA-F]+)(?P<hexuint>[uU])?
  | (?P<int>[0-9]+)(?P<uint>[uU])?
  | (?P<ident>[A-Za-z_][A-Za-z0-9_]*)
  | `(?P<escaped>[A-Za-z0-9_.\-/ ]+)`
  | (?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[abfnrtv\\'"`?])|[xX](?P<hex>[0-9a-fA-F]{2})|u(?P<four>[0-9a-fA-F]{4})"""
    r"""|U(?P<eight>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2}))"""
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word.

    Attributes:
        kind: One of the constants above.
        text: What stood there, or the name or operator.
        value: The value of a literal.
        position: Offset of its first character.
    """

    kind: str
    text: str
    value: object
    position: int


def tokenize(source: str) -> list[Token]:
    """Split an expression into tokens.

    Raises:
        InvalidSelectorError: A character, number or string that CEL does not know.
    """
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
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:
            raise InvalidSelectorError(
                f"{source[position]!r} is not expected here", source=source, position=position
            )
        end = found.end()
        if found["quote"] is not None:
            value, end = _string(source, found["prefix"] or "", found["quote"], position=position, start=end)
            tokens.append(Token(LITERAL, source[position:end], value, position))
        elif found["space"] is None:
            tokens.append(_word(source, found))
        position = end
    tokens.append(Token(END, "the end", None, len(source)))
    return tokens


def _word(source: str, found: re.Match[str]) -> Token:
    position, text = found.start(), found[0]
    if found["ident"] is not None:
        if text in _CONSTANTS:
            return Token(LITERAL, text, _CONSTANTS[text], position)
        if text == "in":
            return Token(OPERATOR, text, None, position)
        return Token(IDENT, text, None, position)
    if found["escaped"] is not None:
        return Token(ESCAPED, found["escaped"], None, position)
    if found["operator"] is not None:
        return Token(OPERATOR, text, None, position)
    return _number(source, found)


def _number(source: str, found: re.Match[str]) -> Token:
    position, text = found.start(), found[0]
    if found["float"] is not None:
        if math.isinf(fraction := float(text)):
            raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
        return Token(NUMBER, text, fraction, position)
    # Longer ones are out of range anyway, and int() of thousands of digits raises a foreign error.
    digits = found["hex"] or found["int"]
    number = int(digits, 0 if found["hex"] else 10) if len(digits) <= 64 else UINT_MAX + 1
    if found["uint"] or found["hexuint"]:
        if number > UINT_MAX:
            raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
        return Token(NUMBER, text, UInt(number), position)
    # One more than the largest int is left to the parser: with a minus sign it is the smallest.
    if number > INT_MAX + 1:
        raise InvalidSelectorError(f"{text[:24]} is out of range", source=source, position=position)
    return Token(NUMBER, text, number, position)


def _string(source: str, prefix: str, quote: str, *, position: int, start: int) -> tuple[str | bytes, int]:
    raw, binary = "r" in prefix.lower(), "b" in prefix.lower()
    parts: list[bytes] = []
    at = start
    while not source.startswith(quote, at):
        if at >= len(source) or (len(quote) == 1 and source[at] in "\r\n"):
            raise InvalidSelectorError("a string is not closed", source=source, position=position)
        if source[at] != "\\" or raw:
            parts.append(source[at].encode())
            at += 1
            continue
        escape = _ESCAPE.match(source, at)
        if escape is None:
            raise InvalidSelectorError("an unknown escape sequence", source=source, position=at)
        parts.append(_unescape(source, escape, binary=binary))
        at = escape.end()
    content = b"".join(parts)
    return (content if binary else content.decode()), at + len(quote)


def _unescape(source: str, escape: re.Match[str], *, binary: bool) -> bytes:
    if (plain := escape["plain"]) is not None:
        return _PLAIN.get(plain, plain).encode()
    if escape["hex"] or escape["octal"]:
        code = int(escape["hex"], 16) if escape["hex"] else int(escape["octal"], 8)
        return bytes([code]) if binary else chr(code).encode()
    code = int(escape["four"] or escape["eight"], 16)
    if binary or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise InvalidSelectorError("an escape that is no character", source=source, position=escape.start())
    return chr(code).encode()
