"""What a subscription to changes asks for: `column=operator.value`, several separated by commas."""

from dataclasses import dataclass
from typing import Any

OPERATORS = frozenset(
    ("eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "match", "imatch", "isdistinct")
)
EVENTS = ("INSERT", "UPDATE", "DELETE")
MOST_VALUES = 100  # of an `in`
MOST_FILTERS = 20

# Column, operator, operand, whether negated: what the SQL functions read.
Filter = tuple[str, str, str, bool]


class FilterError(Exception):
    """What is wrong with a subscription, in a sentence."""


@dataclass(frozen=True)
class Wanted:
    """A subscription. `*` is any event, schema or table; `select` None is every column."""

    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]
    select: tuple[str, ...] | None

    def matches(self, event: str, schema: str, table: str) -> bool:
        """Whether a change of that kind, on that table, is asked for."""
        return self.event in ("*", event) and self.schema in ("*", schema) and self.table in ("*", table)

    def __str__(self) -> str:
        """For messages, as the real server puts it."""
        filters = ", ".join(
            f'{{"{column}", "{operator}", "{value}"}}' for column, operator, value, _ in self.filters
        )
        return f"event: {self.event}, schema: {self.schema}, table: {self.table}, filters: [{filters}]"


def parse(params: dict[str, Any]) -> Wanted:
    """One entry of `postgres_changes` of a join. Raises FilterError."""
    event, schema, table = params.get("event"), params.get("schema"), params.get("table")
    event = event.upper() if isinstance(event, str) and event.upper() in EVENTS else "*"
    texts = [value for value in (schema, table) if value is not None]
    if not texts or not all(isinstance(value, str) for value in texts):
        raise FilterError(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to"
        )
    text = params.get("filter")
    if text is not None and not isinstance(text, str):
        raise FilterError("Error parsing `filter` params: it has to be a text")
    filters = _filters(text or "")
    select = params.get("select")
    if select is not None and not (
        isinstance(select, list) and all(isinstance(name, str) for name in select)
    ):
        raise FilterError("Error parsing `select` params: expected a list of column name strings")
    if select and "*" in (schema, table or "*"):
        raise FilterError(
            "Column selection is not supported for wildcard subscriptions. "
            "Provide an explicit schema and table name."
        )
    return Wanted(event, schema or "public", table or "*", filters, tuple(select) if select else None)


def _filters(text: str) -> tuple[Filter, ...]:
    if not text.strip():
        return ()
    found = tuple(_filter(part.strip()) for part in _split(text.strip()))
    if len(found) > MOST_FILTERS:
        raise FilterError(f"Error parsing `filter` params: more than {MOST_FILTERS} conditions")
    return found


def _split(text: str) -> list[str]:
    """At commas that stand neither in parentheses nor in quotes."""
    parts, depth, quoted, before = [""], 0, False, ""
    at = 0
    while at < len(text):
        char = text[at]
        if quoted:
            if char == "\\" and at + 1 < len(text):
                char += text[at + 1]
                at += 1
            quoted = char != '"'
        elif char == '"' and before in (".", "(", ","):
            quoted = True
        elif char == "," and depth == 0:
            parts.append("")
            at, before = at + 1, ""
            continue
        else:
            depth = max(0, depth + {"(": 1, ")": -1}.get(char, 0))
        parts[-1] += char
        at, before = at + 1, char
    return parts


def _filter(part: str) -> Filter:
    if not part:
        raise FilterError(
            "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)"
        )
    column, equals, rest = part.partition("=")
    negated = rest.startswith("not.")
    operator, dot, value = rest.removeprefix("not.").partition(".")
    if not (column and equals and dot and operator in OPERATORS) or "\0" in part:
        raise FilterError(f"Error parsing `filter` params: {part[:100]!r} is not column=operator.value")
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise FilterError(
                "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"
            )
        if value.count(",") >= MOST_VALUES:
            raise FilterError(f"too many values for `in` filter. Maximum {MOST_VALUES}")
        value = "{" + value[1:-1] + "}"
    elif operator == "is" and value not in ("null", "true", "false", "unknown"):
        raise FilterError("invalid value for is filter: must be null, true, false, or unknown")
    elif len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = _unquoted(value[1:-1])
    return column, operator, value, negated


def _unquoted(value: str) -> str:
    """Without the backslashes that keep a character."""
    kept, at = "", 0
    while at < len(value):
        at += value[at] == "\\" and at + 1 < len(value)
        kept += value[at]
        at += 1
    return kept
