"""PromQL laid out over lines as a code formatter would: what fits stays on one line, the rest breaks where it nests.

An expression breaks at its binary operators first (the operator starts the continued line), then inside the
parentheses of calls and aggregations, and inside a selector's braces last. Comments are kept, each on a line of its
own above the operand that it speaks of. Only white space changes, and parentheses go that hold nothing but one operand
or a whole argument; the meaning is the same. It works on tokens, so Grafana's variables need not be filled in first.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from servescope.errors import ServescopeError

WIDTH = 100
_LABELLED = re.compile(r"(\w+ \w+) \((.*)\) ")
_STEP = "  "

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>\#[^\n]*)
    | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    | (?P<range>\[[^\]]*\])
    | (?P<number>0[xX][0-9a-fA-F]+|(?:\d|\.\d)(?:[eE][+-]\d|[\w.])*)
    | (?P<word>(?:[A-Za-z_:]|\$\{[^}]*\}|\$\w)(?:[\w:]|\$\{[^}]*\}|\$\w)*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^@<>=(){},])
    """,
    re.VERBOSE,
)

# From the loosest to the tightest.
_LEVELS = (
    ("or",),
    ("and", "unless"),
    ("==", "!=", ">", "<", ">=", "<="),
    ("+", "-"),
    ("*", "/", "%", "atan2"),
    ("^",),
)
_LEVEL = {operator: level for level, operators in enumerate(_LEVELS) for operator in operators}
_POWER = _LEVEL["^"]
_MATCHING = ("bool", "on", "ignoring", "group_left", "group_right")
_GROUPING = ("by", "without")


def lay_out(expression: str) -> str:
    """The same expression over lines of at most `WIDTH` columns, but for tokens that are longer than that.

    Raises:
        ServescopeError: the expression has a form that PromQL has not; the message names the place.
    """
    laid_out = _laid_out_once(expression)
    # A comment that has moved in front of its term may let the rest fit on fewer lines.
    return _laid_out_once(laid_out) if "#" in laid_out else laid_out


def _laid_out_once(expression: str) -> str:
    parser = _Parser(expression)
    operand = parser.argument()
    after = parser.end()
    return "\n".join([*_lines(_bare(operand), _Place()), *after])


# ---------------------------------------------------------------------------------------------------------------------
# The tree


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    comments: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The text as a keyword is compared; that of a string is never one."""
        return "" if self.kind == "string" else self.text.lower()


@dataclass(frozen=True)
class _Atom:
    """What never breaks: a number, a string, a metric's name, with its range and offset."""

    text: str
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Something in brackets: a call, an aggregation, a selector, or an operand in parentheses, where `head` is ""."""

    head: str
    brackets: str
    items: tuple[_Operand, ...]
    tail: str = ""


@dataclass(frozen=True)
class _Signed:
    """An operand after a unary sign."""

    sign: str
    operand: _Operand


@dataclass(frozen=True)
class _Chain:
    """Operands of one level, with the operators between them (one less than there are operands)."""

    operands: tuple[_Operand, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class _Operand:
    """A node with the comments above it, or above the operator before it."""

    node: _Atom | _Group | _Signed | _Chain
    comments: tuple[str, ...] = ()


def _bare(operand: _Operand) -> _Operand:
    """An operand without the parentheses around all of it."""
    node = operand.node
    if isinstance(node, _Group) and not node.head and node.brackets == "()" and not node.tail:
        (inner,) = node.items
        return _bare(_Operand(inner.node, operand.comments + inner.comments))
    return operand


def _single(operand: _Operand) -> _Operand:
    """An operand without parentheses that hold a single thing, without an operator."""
    bare = _bare(operand)
    return operand if isinstance(bare.node, (_Chain, _Signed)) else bare


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def _tokens(expression: str) -> Iterator[_Token]:
    """The tokens, each with the comments before it, and an empty one at the end with those after the last."""
    comments: list[str] = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ServescopeError(f"no PromQL at column {position + 1}: {expression}")
        position = match.end()
        kind = str(match.lastgroup)
        if kind == "comment":
            comments.append(match[0].rstrip())
        elif kind != "space":
            yield _Token(kind, match[0], tuple(comments))
            comments = []
    yield _Token("end", "", tuple(comments))


@dataclass
class _Parser:
    """Reads by recursive descent. `comments` gathers those of the operand that is being read."""

    expression: str
    position: int = 0
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(_tokens(self.expression))

    @property
    def ahead(self) -> _Token:
        """The token that comes next."""
        return self.tokens[self.position]

    def take(self, text: str = "") -> str:
        """The next token's text; it must be `text` where that is given."""
        token = self.ahead
        if token.kind == "end" or (text and token.text != text):
            wanted = f"{text!r} expected" if text else "an operand expected"
            raise ServescopeError(f"{wanted} before {token.text or 'the end'!r}: {self.expression}")
        self.position += 1
        self.comments += token.comments
        return token.text

    def end(self) -> tuple[str, ...]:
        """The comments after the last token; there must be no other token left."""
        if self.ahead.kind != "end":
            raise ServescopeError(f"an operator expected before {self.ahead.text!r}: {self.expression}")
        return self.ahead.comments

    def argument(self) -> _Operand:
        """A whole expression up to a comma, a closing bracket or the end."""
        outer, self.comments = self.comments, []
        operand = self.chain(0)
        self.comments = outer
        if self.ahead.text in (",", ")"):
            # A comment after the last operand: it stays inside these brackets.
            operand = _Operand(operand.node, operand.comments + self.ahead.comments)
            self.tokens[self.position] = _Token(self.ahead.kind, self.ahead.text)
        return operand

    def chain(self, level: int) -> _Operand:
        """Operands of one level and of tighter ones."""
        if level == len(_LEVELS):
            return self.operand()
        first = self.chain(level + 1)
        operands, operators = [first], []
        while self.ahead.kind != "string" and _LEVEL.get(self.ahead.word) == level:
            outer, self.comments = self.comments, []
            operators.append(self.operator())
            before = tuple(self.comments)
            self.comments = outer
            # `a ^ b ^ c` is read from the right, which changes nothing for the layout of a chain.
            operand = self.chain(level + 1)
            operands.append(_single(_Operand(operand.node, before + operand.comments)))
        if not operators:
            return first
        head = _single(first)
        operands[0] = _Operand(head.node)
        return _Operand(_Chain(tuple(operands), tuple(operators)), head.comments)

    def operator(self) -> str:
        """An operator with all that says how to match: `bool`, `on (...)`, `group_left (...)`."""
        parts = [self.take().lower()]
        while self.ahead.word in _MATCHING and self.ahead.kind == "word":
            parts.append(self.take().lower())
            if self.ahead.text == "(" and parts[-1] != "bool":
                parts.append(self.labels())
        return " ".join(parts)

    def labels(self) -> str:
        """A list of labels in parentheses."""
        self.take("(")
        names = []
        while self.ahead.text != ")":
            names.append(self.take())
            if self.ahead.text != ")":
                self.take(",")
        self.take(")")
        return f"({', '.join(names)})"

    def operand(self) -> _Operand:
        """The text between two operators, with all comments in it that are in no argument of its own."""
        outer, self.comments = self.comments, []
        node: _Atom | _Group | _Signed
        if self.ahead.text in ("+", "-"):
            sign = self.take()
            inner = self.chain(_POWER)
            self.comments += inner.comments
            node = _Signed(sign, _single(_Operand(inner.node)))
        elif self.ahead.text == "(":
            node = self.parentheses("")
        elif self.ahead.text == "{":
            node = self.selector("")
        elif self.ahead.kind in ("word", "number", "string"):
            node = self.named()
        else:
            self.take("an operand")
            raise AssertionError("take() raises")
        operand = _Operand(node, tuple(self.comments))
        self.comments = outer
        return operand

    def named(self) -> _Atom | _Group:
        """A call, an aggregation, a selector, a number or a string."""
        kind, head = self.ahead.kind, self.take()
        if kind == "word" and self.ahead.word in _GROUPING:
            return self.parentheses(f"{head} {self.take().lower()} {self.labels()} ")
        if kind == "word" and self.ahead.text == "(":
            return self.parentheses(head)
        if kind == "word" and self.ahead.text == "{":
            return self.selector(head)
        tail = self.tail() if kind == "word" else ""
        return _Atom(head + tail, kind)

    def parentheses(self, head: str) -> _Group:
        """Arguments, and what follows the closing parenthesis."""
        self.take("(")
        items = []
        while self.ahead.text != ")":
            items.append(_bare(self.argument()))
            if self.ahead.text != ")":
                self.take(",")
        self.take(")")
        if not head and len(items) != 1:
            raise ServescopeError(f"parentheses hold one operand: {self.expression}")
        tail = ""
        if head and self.ahead.word in _GROUPING:
            tail = f" {self.take().lower()} {self.labels()}"
        return _Group(head=head, brackets="()", items=tuple(items), tail=tail + self.tail())

    def selector(self, name: str) -> _Group:
        """A metric with its matchers."""
        self.take("{")
        matchers: list[str] = []
        text = ""
        while self.ahead.text != "}":
            if self.ahead.text == ",":
                self.take()
                matchers.append(text)
                text = ""
            else:
                text += f" {self.take()} " if self.ahead.word == "or" and text else self.take()
        self.take("}")
        items = tuple(_Operand(_Atom(matcher)) for matcher in (*matchers, text) if matcher)
        return _Group(head=name, brackets="{}", items=items, tail=self.tail())

    def tail(self) -> str:
        """The range, subquery, offset and `@` after a vector."""
        text = ""
        while True:
            if self.ahead.kind == "range":
                text += re.sub(r"\s", "", self.take())
            elif self.ahead.word == "offset" and self.ahead.kind == "word":
                text += f" {self.take().lower()} {self.take() if self.ahead.text in ('+', '-') else ''}{self.take()}"
            elif self.ahead.text == "@":
                text += f" {self.take()} {self.take() if self.ahead.text in ('+', '-') else ''}{self.take()}"
                if self.ahead.text == "(":
                    text += self.take("(") + self.take(")")
            else:
                return text


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@dataclass(frozen=True)
class _Place:
    """Where a node is written: the indentation, and the text before and after it on its first and last line."""

    indent: str = ""
    before: str = ""
    after: str = ""

    @property
    def deeper(self) -> _Place:
        """A line of its own, one step further in."""
        return _Place(self.indent + _STEP)

    def lines(self, text: str) -> list[str]:
        """A text of one line in this place."""
        return [f"{self.indent}{self.before}{text}{self.after}"]


def _flat(operand: _Operand) -> str | None:
    """The operand on one line; None where it contains a comment."""
    if operand.comments:
        return None
    node = operand.node
    if isinstance(node, _Atom):
        return node.text
    if isinstance(node, _Signed):
        inner = _flat(node.operand)
        return None if inner is None else node.sign + inner
    parts = [_flat(item) for item in (node.operands if isinstance(node, _Chain) else node.items)]
    texts = [part for part in parts if part is not None]
    if len(texts) < len(parts):
        return None
    if isinstance(node, _Chain):
        return texts[0] + "".join(f" {op} {text}" for op, text in zip(node.operators, texts[1:], strict=True))
    return f"{node.head}{node.brackets[0]}{', '.join(texts)}{node.brackets[1]}{node.tail}"


def _lines(operand: _Operand, place: _Place) -> list[str]:
    """The operand's lines, its comments first."""
    comments = [place.indent + comment for comment in operand.comments]
    return comments + _code(_Operand(operand.node), place)


def _code(operand: _Operand, place: _Place) -> list[str]:
    flat = _flat(operand)
    node = operand.node
    if flat is not None:
        (line,) = place.lines(flat)
        if len(line) <= WIDTH or isinstance(node, _Atom):
            return [line]
    if isinstance(node, _Group):
        return _group(node, place)
    if isinstance(node, _Signed):
        return _lines(node.operand, _Place(place.indent, place.before + node.sign, place.after))
    assert isinstance(node, _Chain)
    return _chain(node, place)


def _chain(chain: _Chain, place: _Place) -> list[str]:
    """Each operand on lines of its own, but for numbers, which stay beside what they are compared or multiplied with.

    The text before the chain takes a line of its own, so that the operators are further in than it.
    """
    first, rest = chain.operands[0], list(zip(chain.operators, chain.operands[1:], strict=True))
    factor = bound = ""
    if _number(first) and not rest[0][1].comments:
        operator, second = rest.pop(0)
        factor, first = f"{_flat(first)} {operator} ", second
    if rest and isinstance(first.node, _Group) and _number(rest[0][1]):
        operator, second = rest.pop(0)
        bound = f" {operator} {_flat(second)}"
    if not rest:
        return _lines(first, _Place(place.indent, place.before + factor, bound + place.after))
    lines, inner = [], place
    if place.before:
        lines, inner = [place.indent + place.before.rstrip()], place.deeper
    lines += _lines(first, _Place(inner.indent, factor, bound))
    for operator, operand in rest:
        further = _lines(operand, _Place(inner.indent, f"{operator} "))
        if len(further[0]) > WIDTH and operator.endswith(")"):  # matched on many labels
            further = [inner.indent + operator, *_lines(operand, inner.deeper)]
        lines += further
    lines[-1] += place.after
    return lines


def _number(operand: _Operand) -> bool:
    return isinstance(operand.node, _Atom) and operand.node.kind == "number" and not operand.comments


def _group(group: _Group, place: _Place) -> list[str]:
    opening, closing = group.head + group.brackets[0], group.brackets[1] + group.tail
    items = _packed(group.items, place.deeper)
    lines = _opening(group, place)
    beside = len(lines[0]) + len(getattr(items[0].node, "head", "")) < WIDTH if items else False
    if len(items) == 1 and len(lines) == 1 and beside and group.head and _long_selector(items[0], place.deeper):
        return _code(items[0], _Place(place.indent, place.before + opening, closing + place.after))
    for number, item in enumerate(items, 1):
        lines += _lines(item, _Place(place.deeper.indent, "", "," if number < len(items) else ""))
    return [*lines, place.indent + closing + place.after]


def _opening(group: _Group, place: _Place) -> list[str]:
    """What stands before the items: one line, or more where an aggregation has many labels."""
    line = place.indent + place.before + group.head + group.brackets[0]
    labelled = _LABELLED.fullmatch(group.head)
    if len(line) <= WIDTH or labelled is None:
        return [line]
    inner = place.deeper.indent
    labels = textwrap.wrap(labelled[2], WIDTH - len(inner), break_long_words=False)
    opening, closing = f"{place.indent}{place.before}{labelled[1]} (", f"{place.indent}) {group.brackets[0]}"
    return [opening, *(inner + part for part in labels), closing]


def _long_selector(operand: _Operand, place: _Place) -> bool:
    """Whether an operand is a selector that does not fit on a line of its own."""
    node, flat = operand.node, _flat(operand)
    selector = isinstance(node, _Group) and node.brackets == "{}" and len(node.items) > 0
    return selector and flat is not None and len(place.indent + flat) > WIDTH


def _packed(items: tuple[_Operand, ...], place: _Place) -> list[_Operand]:
    """The items of a group, with strings and numbers that follow each other on one line while they fit."""
    packed: list[_Operand] = []
    for item in items:
        last = packed[-1] if packed else None
        if last is not None and _literal(last) and _literal(item):
            text = f"{_flat(last)}, {_flat(item)}"
            if len(place.indent) + len(text) < WIDTH:
                packed[-1] = _Operand(_Atom(text, "string"))
                continue
        packed.append(item)
    return packed


def _literal(operand: _Operand) -> bool:
    node = operand.node
    return isinstance(node, _Atom) and node.kind in ("string", "number") and not operand.comments
