"""Stripe's form encoding: `line_items[0][price_data][currency]=usd` is a tree."""

import re
from typing import Any
from urllib.parse import parse_qsl

from .errors import ApiError

NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def decode(body: str) -> dict[str, Any]:
    """The tree that a form or a query string describes. Leaves are texts; the types come later."""
    tree: dict[str, Any] = {}
    for key, value in parse_qsl(body, keep_blank_values=True):
        match = NAME.fullmatch(key)
        if not match:
            raise ApiError(f"Invalid string: {key}", param=key, validation=True)
        _put(tree, [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])], value, key)
    return {name: _lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], path: list[str], value: str, key: str) -> None:
    *folders, leaf = path
    for folder in folders:
        tree = tree.setdefault(folder or str(len(tree)), {})
        if not isinstance(tree, dict):
            raise ApiError(f"Invalid {key}: it is given twice, as a value and as an object.", param=key)
    tree[leaf or str(len(tree))] = value


def _lists(value: Any) -> Any:
    """A tree whose names are 0, 1, 2 ... is a list."""
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(item) for name, item in value.items()}
    if inner and all(name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner
