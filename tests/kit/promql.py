"""As much of PromQL as it takes to say what an expression asks for: metrics, labels, and what is done to them."""

import dataclasses
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
OPERATORS = frozenset({"and", "or", "unless", "bool", "offset"})
OVER_RANGES = frozenset({"rate", "increase", "deriv", "changes", "max_over_time"})
FUNCTIONS = OVER_RANGES | {"sum", "min", "max", "avg", "count", "absent", "histogram_quantile", "time"}

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*")|(?P<word>[A-Za-z_:][\w:]*)|(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhdw])?"""
    r"""|(?P<sign>=~|!~|!=|==|>=|<=|[=<>+\-*/%^(){}\[\],]))"""
)
_CLOSES = {"(": ")", "{": "}", "[": "]"}


@dataclasses.dataclass(frozen=True, slots=True)
class Selector:
    """Series that an expression reads, the values its matchers allow by label, and the innermost function around it."""

    series: str
    matchers: dict[str, tuple[str, ...]]
    function: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What it reads. `grouped`: labels in any grouping; `kept`: those that ``by`` leaves, None where there is none."""

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]
    kept: frozenset[str] | None


def parse(expression: str) -> Query:
    """Raises ValueError for what is no PromQL, and for words that are unknown here."""
    return _Reader(_tokens(expression.replace("$__rate_interval", "5m"))).read()


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while expression[at:].strip():
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"no PromQL: {expression[at:]}")
        tokens.append(match.group().strip())
        at = match.end()
    return tokens


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._open: list[tuple[str, str | None]] = []
        """Brackets that are still to be closed, and the function that each belongs to."""
        self._selectors: list[Selector] = []
        self._grouped: set[str] = set()
        self._kept: set[str] | None = None

    def read(self) -> Query:
        function: str | None = None
        while self._at < len(self._tokens):
            token = self._next()
            if token in GROUPING:
                self._grouping(token)
                continue
            if token == "(":
                self._open.append((")", function))
            elif token == ")":
                if not self._open or self._open.pop()[0] != token:
                    raise ValueError("a bracket closes that was not opened")
            elif token in ("{", "[", "}", "]"):
                raise ValueError(f"{token} without a metric before it")
            elif token[0].isalpha() and token not in OPERATORS:
                if self._peek() == "(" or self._peek() in GROUPING:
                    if token not in FUNCTIONS:
                        raise ValueError(f"{token} is no function that is known here")
                    function = token
                    continue
                self._selector(token)
            function = None
        if self._open:
            raise ValueError("a bracket is not closed")
        if not self._tokens:
            raise ValueError("nothing is asked for")
        return Query(tuple(self._selectors), frozenset(self._grouped), _frozen(self._kept))

    def _next(self) -> str:
        if self._at == len(self._tokens):
            raise ValueError("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _grouping(self, word: str) -> None:
        labels = set(self._list("(", self._next))
        self._grouped |= labels
        if word == "by":
            self._kept = (self._kept or set()) | labels

    def _selector(self, series: str) -> None:
        matchers: dict[str, tuple[str, ...]] = {}
        if self._peek() == "{":
            matchers = dict(self._list("{", self._matcher))
        ranged = self._peek() == "["
        if ranged:
            self._list("[", self._next)
        function = next((name for _, name in reversed(self._open) if name), None)
        if ranged != (function in OVER_RANGES):
            raise ValueError(f"{series} in {function}: a range goes with {', '.join(sorted(OVER_RANGES))} alone")
        self._selectors.append(Selector(series, matchers, function))

    def _matcher(self) -> tuple[str, tuple[str, ...]]:
        label, sign, value = self._next(), self._next(), self._next()
        if sign not in ("=", "!=", "=~", "!~") or not value.startswith('"'):
            raise ValueError(f"no matcher: {label}{sign}{value}")
        text = value[1:-1]
        return label, tuple(text.split("|")) if sign.endswith("~") else (text,)

    def _list(self, opens: str, item: Callable[[], T]) -> list[T]:
        """Items between brackets, separated by commas."""
        if self._next() != opens:
            raise ValueError(f"{opens} is missing")
        items: list[T] = []
        while self._peek() != _CLOSES[opens]:
            items.append(item())
            if self._peek() == ",":
                self._next()
        self._next()
        return items


def _frozen(labels: set[str] | None) -> frozenset[str] | None:
    return None if labels is None else frozenset(labels)
