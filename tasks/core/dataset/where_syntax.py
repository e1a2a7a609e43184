"""The text of a condition on cells, as `--where` takes it, to the condition: a parser of its own, that runs nothing."""

import re
from collections.abc import Callable, Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import NamedTuple, NoReturn

from tasks.core.base.errors import SettingsError
from tasks.core.dataset.where import Compare, Condition, IsNull, Not, Several, Value

_MOST_CHARACTERS, _MOST_LEVELS, _SHOWN = 1_000, 50, 20
# Holds any number that a condition has room for; of an exponent beyond it, infinity or zero.
_EXACT = Context(prec=_MOST_CHARACTERS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_TOKENS = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*")
    | (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    | (?P<name>`[^`]+`)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>==|!=|<=|>=|<|>|\(|\)|,)
    | (?P<end>$)
    | (?P<wrong>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"and", "or", "not", "in", "is", "null", "true", "false"}
_SIGNS = ("==", "!=", "<", "<=", ">", ">=")
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HINTS = {"=": "equality is written ==", "&": "write 'and'", "|": "write 'or'", "!": "write 'not', or != for unequal"}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Column(NamedTuple):
    name: str


def parse(expression: str) -> Condition:
    """Parse a condition on columns.

    Columns are names, in backticks where they are not words (`moa-fine`); they are compared with texts in quotes,
    numbers, `true` or `false` by `== != < <= > >=`, `in (...)`, `not in (...)`, `is null` and `is not null`, joined by
    `and`, `or`, `not` and parentheses.

    Raises:
        SettingsError: it is no such condition; points at the place.
    """
    if len(expression) > _MOST_CHARACTERS:
        raise SettingsError(f"--where has {len(expression):,} characters, more than {_MOST_CHARACTERS:,}")
    return _Parser(expression).parse()


def as_given(expression: str | None) -> str:
    """Name an expression in a message, on one line."""
    return f"--where {' '.join((expression or '').split())}"


class _Parser:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = _tokens(expression)
        self._token = next(self._tokens)
        self._level = 0

    def parse(self) -> Condition:
        condition = self._either()
        if self._token.kind != "end":
            self._refuse("'and', 'or' or the end is expected")
        return condition

    def _either(self) -> Condition:
        return self._several("or", self._both)

    def _both(self) -> Condition:
        return self._several("and", self._single)

    def _several(self, word: str, part: Callable[[], Condition]) -> Condition:
        conditions = [part()]
        while self._take(word):
            conditions.append(part())
        return conditions[0] if len(conditions) == 1 else Several(word, tuple(conditions))

    def _single(self) -> Condition:
        self._level += 1
        if self._level > _MOST_LEVELS:
            self._refuse(f"more than {_MOST_LEVELS} levels are too deep")
        if self._take("not"):
            condition: Condition = Not(self._single())
        elif self._take("("):
            condition = self._either()
            self._expect(")")
        else:
            condition = self._test()
        self._level -= 1
        return condition

    def _test(self) -> Condition:
        start, first = self._token, self._operand()
        if isinstance(first, _Column):
            negated = self._take("not")
            if self._take("in"):
                return _negate(self._among(first.name), negated)
            if negated:
                self._refuse("'in' is expected")
            if self._take("is"):
                negated = self._take("not")
                self._expect("null")
                return _negate(IsNull(first.name), negated)
        sign = self._token.text
        if self._token.kind != "sign" or sign not in _SIGNS:
            self._refuse("a comparison is expected, such as == 'text', in ('a', 'b') or is null")
        self._next()
        second = self._operand()
        if isinstance(first, _Column) and not isinstance(second, _Column):
            return _compare(first.name, sign, second)
        if isinstance(second, _Column) and not isinstance(first, _Column):
            return _compare(second.name, _TURNED.get(sign, sign), first)
        return self._refuse("one side must be a column, the other a text in quotes or a number", start)

    def _among(self, column: str) -> Condition:
        self._expect("(")
        values = [self._value()]
        while self._take(","):
            if self._token.text == ")":
                break
            values.append(self._value())
        self._expect(")")
        return Several("or", tuple(Compare(column, "==", value) for value in values))

    def _operand(self) -> _Column | Value:
        token = self._token
        if token.kind == "name" or (token.kind == "word" and token.text.lower() not in _WORDS):
            self._next()
            return _Column(token.text.strip("`"))
        return self._value()

    def _value(self) -> Value:
        token = self._token
        if token.kind == "text":
            value: Value = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        elif token.kind == "number":
            value = _number(token.text)
        elif token.text.lower() in ("true", "false"):
            value = token.text.lower() == "true"
        else:
            self._refuse("a text in quotes or a number is expected")
        self._next()
        return value

    def _take(self, text: str) -> bool:
        taken = self._token.kind in ("word", "sign") and self._token.text.lower() == text
        if taken:
            self._next()
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._refuse(f"'{text}' is expected")

    def _next(self) -> None:
        self._token = next(self._tokens)

    def _refuse(self, problem: str, token: _Token | None = None) -> NoReturn:
        token = token or self._token
        problem = _HINTS.get(token.text, problem)
        if token.kind == "wrong" and token.text in "'\"`":
            problem = "a quote is opened here and not closed"
        rest = " ".join(self._expression[token.at :].split())
        place = f"at character {token.at + 1}: {rest[:_SHOWN]}" if rest else "at its end"
        raise SettingsError(f"{as_given(self._expression)}: {problem}, {place}")


def _tokens(expression: str) -> Iterator[_Token]:
    at = 0
    while True:
        found = _TOKENS.match(expression, at)
        if found is None or found.lastgroup is None:
            # The pattern takes whatever there is.
            raise AssertionError(f"{expression!a} has no token from character {at + 1} on")
        yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
        at = found.end()


def _compare(column: str, sign: str, value: Value) -> Condition:
    return Not(Compare(column, "==", value)) if sign == "!=" else Compare(column, sign, value)


def _negate(condition: Condition, negated: bool) -> Condition:
    return Not(condition) if negated else condition


def _number(text: str) -> int | Decimal:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else _EXACT.create_decimal(text)
