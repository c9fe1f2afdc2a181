"""From tokens to a tree.

Purpose: CEL's grammar, by precedence climbing.

Flow: `parse` tokenizes and parses; `has()` is the one macro that is resolved here.

Limits: a tree is at most 100 levels high (chains of `&&` and `||` count as one). What is CEL but not
supported yet is refused by name with its column, so that nobody takes it for a mistake of theirs.
"""

from __future__ import annotations

from driver.cel.budget import MAX_DEPTH
from driver.cel.errors import InvalidSelectorError, PositionedSelectorError, SelectorNotSupportedError
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

_LEVELS = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 3),
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
}


def parse(source: str) -> Node:
    """Parse an expression.

    Raises:
        InvalidSelectorError: It is not CEL.
        SelectorNotSupportedError: It is, but more than is supported yet.
    """
    parser = _Parser(source)
    tree = parser.ternary()
    parser.expect_end()
    _check_height(tree, source)
    return tree


def _check_height(tree: Node, source: str) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in children(node)]
        if not level:
            return
    raise _too_deep(source, level[0].position)


def _too_deep(source: str, position: int) -> PositionedSelectorError:
    return SelectorNotSupportedError(
        f"nesting deeper than {MAX_DEPTH} levels is not supported yet", source=source, position=position
    )


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._at = 0
        self._depth = 0

    # Tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, *operators: str) -> Token | None:
        token = self._next
        if token.kind == OPERATOR and token.text in operators:
            self._at += 1
            return token
        return None

    def _expect(self, operator: str) -> Token:
        token = self._accept(operator)
        if token is None:
            raise self._wrong(f"{operator!r} is expected, but {self._next.text!r} found")
        return token

    def expect_end(self) -> None:
        if self._next.kind != END:
            raise self._wrong(f"{self._next.text!r} is not expected here")

    def _wrong(self, message: str, token: Token | None = None) -> InvalidSelectorError:
        return InvalidSelectorError(message, source=self._source, position=(token or self._next).position)

    def _later(self, what: str, token: Token) -> SelectorNotSupportedError:
        return SelectorNotSupportedError(
            f"{what} is not supported yet", source=self._source, position=token.position
        )

    # Grammar

    def ternary(self) -> Node:
        self._deeper()
        condition = self._binary(1)
        question = self._accept("?")
        if question is not None:
            yes = self._binary(1)
            self._expect(":")
            condition = Ternary(condition, yes, self.ternary(), question.position)
        self._depth -= 1
        return condition

    def _binary(self, lowest: int) -> Node:
        self._deeper()
        left = self._unary()
        while (token := self._next).kind == OPERATOR and (level := _LEVELS.get(token.text, 0)) >= lowest:
            if token.text in {"&&", "||"}:
                left = self._chain(left, token, level)
            else:
                self._at += 1
                left = Call(f"_{token.text}_", None, (left, self._binary(level + 1)), token.position)
        self._depth -= 1
        return left

    def _deeper(self) -> None:
        self._depth += 1
        # A pair of parentheses counts twice, as a ternary and as a binary expression.
        if self._depth > 2 * MAX_DEPTH:
            raise _too_deep(self._source, self._next.position)

    def _chain(self, first: Node, token: Token, level: int) -> Node:
        operands = [first]
        while self._accept(token.text):
            operands.append(self._binary(level + 1))
        return Logic(token.text, tuple(operands), token.position)

    def _unary(self) -> Node:
        signs: list[Token] = []
        while token := self._accept(*((signs[0].text,) if signs else ("!", "-"))):
            signs.append(token)
        if not signs:
            return self._member()
        if signs[0].text == "-" and self._next.kind == NUMBER:
            node = self._postfix(self._negative(signs.pop()))
        else:
            node = self._member()
        for token in reversed(signs):
            node = Call(f"{token.text}_", None, (node,), token.position)
        return node

    def _negative(self, sign: Token) -> Node:
        token = self._take()
        value = token.value
        if isinstance(value, (int, float)) and not isinstance(value, UInt):
            return Literal(-value, sign.position)
        return Call("-_", None, (Literal(value, token.position),), sign.position)

    def _member(self) -> Node:
        return self._postfix(self._primary())

    def _postfix(self, node: Node) -> Node:
        while True:
            if dot := self._accept("."):
                node = self._after_dot(node, dot)
            elif bracket := self._accept("["):
                optional = self._accept("?") is not None
                key = self.ternary()
                self._expect("]")
                node = Index(node, key, bracket.position, optional=optional)
            elif (brace := self._next).text == "{" and brace.kind == OPERATOR and _is_name(node):
                raise self._later("a message literal", brace)
            else:
                return node

    def _after_dot(self, node: Node, dot: Token) -> Node:
        optional = self._accept("?") is not None
        name = self._take()
        if name.kind == ESCAPED:
            return Select(node, name.text, dot.position, optional=optional)
        if name.kind != IDENT:
            raise self._wrong(f"a name is expected, but {name.text!r} found", name)
        if not optional and self._accept("("):
            return Call(name.text, node, self._arguments(), name.position)
        return Select(node, name.text, dot.position, optional=optional)

    def _arguments(self) -> tuple[Node, ...]:
        if self._accept(")"):
            return ()
        args = [self.ternary()]
        while self._accept(","):
            args.append(self.ternary())
        self._expect(")")
        return tuple(args)

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == NUMBER:
            if type(token.value) is int and token.value > INT_MAX:
                raise self._wrong(f"{token.text} is out of range", token)
            return Literal(token.value, token.position)
        if token.kind == LITERAL:
            return Literal(token.value, token.position)
        if token.kind == IDENT:
            return self._name(token)
        if token.kind == OPERATOR:
            match token.text:
                case "(":
                    node = self.ternary()
                    self._expect(")")
                    return node
                case "[":
                    return self._list(token)
                case "{":
                    return self._map(token)
                case ".":
                    raise self._later("a name that starts with a dot", token)
        raise self._wrong(f"{token.text!r} is not expected here", token)

    def _name(self, token: Token) -> Node:
        if token.text in RESERVED:
            raise self._wrong(f"{token.text!r} is a reserved word", token)
        if not self._accept("("):
            return Ident(token.text, token.position)
        args = self._arguments()
        if token.text != "has":
            return Call(token.text, None, args, token.position)
        if len(args) != 1 or not isinstance(args[0], Select):
            raise self._wrong("has() takes one selection of a field, as in has(a.b)", token)
        tested = args[0]
        if tested.optional:
            raise self._later("has() of an optional selection", token)
        return Select(tested.operand, tested.field, token.position, test=True)

    def _list(self, bracket: Token) -> Node:
        elements: list[Node] = []
        while not self._accept("]"):
            if optional := self._accept("?"):
                raise self._later("an optional element", optional)
            elements.append(self.ternary())
            if not self._accept(","):
                self._expect("]")
                break
        return ListLiteral(tuple(elements), bracket.position)

    def _map(self, brace: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._accept("}"):
            if optional := self._accept("?"):
                raise self._later("an optional entry", optional)
            key = self.ternary()
            self._expect(":")
            entries.append((key, self.ternary()))
            if not self._accept(","):
                self._expect("}")
                break
        return MapLiteral(tuple(entries), brace.position)


def _is_name(node: Node) -> bool:
    while isinstance(node, Select) and not node.optional:
        node = node.operand
    return isinstance(node, Ident)
