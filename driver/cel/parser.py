"""From tokens to a tree.

Purpose: CEL's grammar, by precedence climbing.

Flow: `parse` tokenizes and parses; macros are resolved on the way (`driver.cel.macros`).

Limits: the reference's two limits of 250: rules that are open at one time (each bracket opens some, and
each right side of an arithmetic operator), and operators, selections and calls on one path. Of messages
there are only the wrappers of 64 bits, of strings, bytes and bools, and those are what they wrap.
"""

from __future__ import annotations

from driver.cel.budget import MAX_DEPTH
from driver.cel.deep import MANY_TOKENS, make_room
from driver.cel.errors import InvalidSelectorError, SelectorNotSupportedError
from driver.cel.macros import expand
from driver.cel.syntax import (
    Call,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Logic,
    MapLiteral,
    Node,
    Select,
    Ternary,
    children,
)
from driver.cel.tokens import END, ESCAPED, IDENT, LITERAL, NUMBER, OPERATOR, RESERVED, Token, tokenize
from driver.cel.values import INT_MAX, UInt

_RELATION, _SUM = 3, 4
_LEVELS = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), _RELATION),
    "+": _SUM,
    "-": _SUM,
    "*": 5,
    "/": 5,
    "%": 5,
}
_WRAPPERS: dict[str, object] = {
    "google.protobuf.BoolValue": False,
    "google.protobuf.BytesValue": b"",
    "google.protobuf.DoubleValue": 0.0,
    "google.protobuf.Int64Value": 0,
    "google.protobuf.StringValue": "",
    "google.protobuf.UInt64Value": UInt(0),
}
_MESSAGES = frozenset(
    {"Any", "Duration", "Empty", "FloatValue", "Int32Value"}
    | {"ListValue", "Struct", "Timestamp", "UInt32Value", "Value"}
)
_FUNCTIONS = {name: f"_{name}_" for name in _LEVELS}


def parse(source: str, *, newer: bool = True) -> Node:
    """Parse an expression.

    Args:
        source: CEL.
        newer: Whether the release is 1.37 or later, which knows names in backquotes.

    Raises:
        InvalidSelectorError: It is not CEL, or nests too deeply.
        SelectorNotSupportedError: It makes a message.
    """
    tokens = tokenize(source)
    many = len(tokens) > MANY_TOKENS
    if many:
        make_room()
    parser = _Parser(source, tokens, newer=newer)
    tree = parser.expression()
    parser.expect_end()
    if many:
        _check_path(tree, source)
    return tree


def _too_deep(source: str, position: int) -> InvalidSelectorError:
    return InvalidSelectorError(
        f"nesting is deeper than {MAX_DEPTH} levels",
        source=source,
        position=position,
        remedy="Split the selector into several; all of a request's selectors must hold.",
    )


def _check_path(tree: Node, source: str) -> None:
    """Bound the operators, selections and calls between the root and any leaf."""
    pending = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        if not isinstance(node, (Literal, Ident, Logic, ListLiteral, MapLiteral)) and (
            not isinstance(node, Call) or node.target is not None or node.function[0] == "_"
        ):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(source, node.position)
        pending.extend((child, depth) for child in children(node))


class _Parser:
    def __init__(self, source: str, tokens: list[Token], *, newer: bool) -> None:
        self._source = source
        self._tokens = tokens
        self._newer = newer
        self._at = 0
        # Rules of the reference's grammar that are open: `expr`, `relation`, and `calc` for sums.
        self._expressions = 0
        self._relations = 0
        self._sums = 0

    # Tokens

    def _accept(self, operator: str) -> bool:
        kind, text, _, _ = self._tokens[self._at]
        if text == operator and kind == OPERATOR:
            self._at += 1
            return True
        return False

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise self._wrong(f"{operator!r} is expected, but {self._tokens[self._at][1]!r} found")

    def expect_end(self) -> None:
        kind, text, _, _ = self._tokens[self._at]
        if kind != END:
            raise self._wrong(f"{text!r} is not expected here")

    def _wrong(self, message: str, position: int | None = None) -> InvalidSelectorError:
        where = self._tokens[self._at][3] if position is None else position
        return InvalidSelectorError(message, source=self._source, position=where)

    # Grammar

    def expression(self) -> Node:
        self._expressions += 1
        self._enter(relations=1, sums=1)
        node = self._binary(1)
        position = self._tokens[self._at][3]
        if self._accept("?"):
            yes = self._binary(1)
            self._leave(relations=1, sums=1)
            self._expect(":")
            node = Ternary(node, yes, self.expression(), position)
        else:
            self._leave(relations=1, sums=1)
        self._expressions -= 1
        return node

    def _enter(self, *, relations: int, sums: int) -> None:
        self._relations += relations
        self._sums += sums
        if self._expressions > MAX_DEPTH or self._relations > MAX_DEPTH or self._sums > MAX_DEPTH:
            raise _too_deep(self._source, self._tokens[self._at][3])

    def _leave(self, *, relations: int, sums: int) -> None:
        self._relations -= relations
        self._sums -= sums

    def _binary(self, lowest: int) -> Node:
        left = self._unary()
        while True:
            _, text, _, position = self._tokens[self._at]
            level = _LEVELS.get(text, 0)
            # The text of a literal in quotes has its quotes, so only operators are found.
            if level < lowest or not level:
                return left
            self._at += 1
            if level >= _SUM:
                self._enter(relations=0, sums=1)
                left = Call(_FUNCTIONS[text], None, (left, self._binary(level + 1)), position)
                self._leave(relations=0, sums=1)
            elif level == _RELATION:
                self._enter(relations=1, sums=0)
                left = Call(_FUNCTIONS[text], None, (left, self._binary(_SUM)), position)
                self._leave(relations=1, sums=0)
            else:
                operands = [left, self._binary(level + 1)]
                while self._accept(text):
                    operands.append(self._binary(level + 1))
                left = Logic(text, tuple(operands), position)

    def _unary(self) -> Node:
        kind, text, value, position = self._tokens[self._at]
        if kind != OPERATOR or (text != "!" and text != "-"):  # noqa: PLR1714 - asked for each operand
            return self._member()
        count = 0
        while self._accept(text):
            count += 1
        if text == "-" and count == 1:
            kind, _, value, _ = self._tokens[self._at]
            if kind == NUMBER and isinstance(value, (int, float)) and not isinstance(value, UInt):
                self._at += 1
                return self._postfix(Literal(-value, position))
        node = self._member()
        # An even number of signs is none at all, whatever the operand.
        return Call(f"{text}_", None, (node,), position) if count % 2 else node

    def _member(self) -> Node:
        kind, text, value, position = self._tokens[self._at]
        self._at += 1
        if kind == IDENT:
            return self._postfix(self._name(text, position))
        if kind == LITERAL:
            return self._postfix(Literal(value, position))
        if kind == NUMBER:
            if type(value) is int and value > INT_MAX:
                raise self._wrong(f"{text} is out of range", position)
            return self._postfix(Literal(value, position))
        if kind == OPERATOR and (node := self._enclosed(text, position)) is not None:
            return self._postfix(node)
        raise self._wrong(f"{text!r} is not expected here", position)

    def _enclosed(self, opening: str, position: int) -> Node | None:
        if opening == "(":
            node = self.expression()
            self._expect(")")
            return node
        if opening == "[":
            return self._list(position)
        if opening == "{":
            return self._map(position)
        kind, name, _, where = self._tokens[self._at]
        if opening == "." and kind == IDENT:
            self._at += 1
            return self._name(name, where, dot=".")
        return None

    def _postfix(self, node: Node) -> Node:
        while True:
            _, text, _, position = self._tokens[self._at]
            if text == ".":
                self._at += 1
                node = self._after_dot(node, position)
            elif text == "[":
                self._at += 1
                optional = self._accept("?")
                key = self.expression()
                self._expect("]")
                node = Index(node, key, position, optional=optional)
            elif text == "{" and (name := _name_of(node)):
                self._at += 1
                node = self._message(name, position)
            else:
                return node

    def _message(self, name: str, position: int) -> Node:
        """Take a wrapped value for the value: `google.protobuf.Int64Value{value: 1}` is 1."""
        default = _WRAPPERS.get(name)
        if default is None:
            known = name.rpartition(".")[0] == "google.protobuf" and name.rpartition(".")[2] in _MESSAGES
            message = f"messages such as {name} are not supported" if known else f"there is no message {name}"
            raise (SelectorNotSupportedError if known else InvalidSelectorError)(
                message,
                source=self._source,
                position=position,
                remedy="Write the value itself, or a map such as {'key': value}.",
            )
        zero = Literal(default, position)
        if self._accept("}"):
            return zero
        kind, text, _, where = self._tokens[self._at]
        if kind != IDENT or text != "value":
            raise self._wrong(f"{name} has the field 'value' only, not {text!r}", where)
        self._at += 1
        self._expect(":")
        value = self.expression()
        self._accept(",")
        self._expect("}")
        # A condition that always holds, so that the value must be of the wrapper's type.
        return Ternary(Literal(value=True, position=position), value, zero, position)

    def _after_dot(self, node: Node, dot: int) -> Node:
        optional = self._accept("?")
        kind, name, value, position = self._tokens[self._at]
        self._at += 1
        if kind == ESCAPED and self._newer:
            return Select(node, str(value), dot, optional=optional)
        if kind != IDENT:
            if kind == ESCAPED:
                raise self._wrong("this release knows no names in backquotes", position)
            raise self._wrong(f"a name is expected, but {name!r} found", position)
        if not optional and self._accept("("):
            return self._call(name, node, position)
        return Select(node, name, dot, optional=optional)

    def _call(self, name: str, target: Node | None, position: int) -> Node:
        args: list[Node] = []
        if not self._accept(")"):
            args.append(self.expression())
            while self._accept(","):
                args.append(self.expression())
            self._expect(")")
        given = tuple(args)
        return expand(self._source, name, target, given, position) or Call(name, target, given, position)

    def _name(self, name: str, position: int, *, dot: str = "") -> Node:
        if name in RESERVED:
            raise self._wrong(f"{name!r} is a reserved word", position)
        if self._accept("("):
            return self._call(f"{dot}{name}", None, position)
        return Ident(f"{dot}{name}", position)

    def _list(self, position: int) -> Node:
        elements: list[Node] = []
        optional: list[int] = []
        if self._accept(","):
            self._expect("]")
            return ListLiteral((), position)
        while not self._accept("]"):
            if self._accept("?"):
                optional.append(len(elements))
            elements.append(self.expression())
            if not self._accept(","):
                self._expect("]")
                break
        return ListLiteral(tuple(elements), position, frozenset(optional))

    def _map(self, position: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        optional: list[int] = []
        if self._accept(","):
            self._expect("}")
            return MapLiteral((), position)
        while not self._accept("}"):
            if self._accept("?"):
                optional.append(len(entries))
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self._accept(","):
                self._expect("}")
                break
        return MapLiteral(tuple(entries), position, frozenset(optional))


def _name_of(node: Node) -> str:
    parts: list[str] = []
    while isinstance(node, Select) and not node.optional and not node.test:
        parts.append(node.field)
        node = node.operand
    return ".".join([node.name.removeprefix("."), *reversed(parts)]) if isinstance(node, Ident) else ""
