"""What each request may say. A parser turns the text of one parameter into its value, or refuses it.

A parameter that is not listed is refused as unknown, also one that the real Stripe knows and this
stand-in does not: nothing is ignored in silence.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import ApiError, invalid

Parser = Callable[[Any, str], Any]

# Stripe's minor unit of these is the unit itself.
ZERO_DECIMAL = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())  # noqa: SIM905
CURRENCIES = ZERO_DECIMAL | frozenset(
    "usd eur gbp aud cad chf cny czk dkk hkd huf inr mxn myr nok nzd php pln ron sek sgd thb try twd zar "  # noqa: SIM905
    "brl ils aed sar bhd jod kwd omr tnd".split()
)
MAX_AMOUNT = 99_999_999


@dataclass(frozen=True)
class Required:
    """Marks a parameter that must be there."""

    parser: Parser


Fields = Mapping[str, Parser | Required]


def _is_text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {path} must be a single value.", path)
    return value


def text(limit: int = 5000, pattern: str | None = None) -> Parser:
    """A text; an empty one unsets the field (None)."""

    def parse(value: Any, path: str) -> str | None:
        given = _is_text(value, path)
        if len(given) > limit:
            raise invalid(
                f"Invalid string: {path} must be at most {limit} characters.",
                path,
                "parameter_invalid_string",
            )
        if given and pattern and not re.fullmatch(pattern, given):
            raise invalid(f"Invalid {path}: {given!r}", path)
        return given or None

    return parse


def integer(least: int | None = None, most: int | None = None) -> Parser:
    """A whole number."""

    def parse(value: Any, path: str) -> int:
        given = _is_text(value, path)
        if not re.fullmatch(r"-?\d{1,15}", given):
            raise invalid(f"Invalid integer: {given}", path, "parameter_invalid_integer")
        number = int(given)
        if least is not None and number < least:
            raise invalid(
                f"This value must be greater than or equal to {least}.", path, "parameter_invalid_integer"
            )
        if most is not None and number > most:
            raise invalid(
                f"This value must be less than or equal to {most}.", path, "parameter_invalid_integer"
            )
        return number

    return parse


def decimal(value: Any, path: str) -> float:
    """A percentage."""
    given = _is_text(value, path)
    if not re.fullmatch(r"\d{1,3}(\.\d{1,4})?", given) or not 0 < float(given) <= 100:
        raise invalid(f"Invalid decimal: {given}; {path} must be over 0 and at most 100.", path)
    return float(given)


def boolean(value: Any, path: str) -> bool:
    """True or false."""
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {value}", path)
    return bool(value == "true")


def one_of(*allowed: str) -> Parser:
    """One of a few words."""

    def parse(value: Any, path: str) -> str:
        given = _is_text(value, path)
        if given not in allowed:
            raise invalid(f"Invalid {path}: must be one of {', '.join(allowed)}", path)
        return given

    return parse


def currency(value: Any, path: str) -> str:
    """A three-letter code, answered in lower case."""
    given = _is_text(value, path).lower()
    if given not in CURRENCIES:
        raise invalid(
            f"Invalid currency: {given}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(CURRENCIES))}",
            path,
        )
    return given


def url(value: Any, path: str) -> str:
    """An absolute URL."""
    given = _is_text(value, path)
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid("Not a valid URL", path, "url_invalid")
    return given


def email(value: Any, path: str) -> str | None:
    """An e-mail address."""
    given = _is_text(value, path)
    if given and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", given):
        raise invalid(f"Invalid email address: {given}", path, "email_invalid")
    return given or None


def metadata(value: Any, path: str) -> dict[str, str]:
    """Up to 50 texts by name; an empty text takes the name out."""
    if value == "":
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid object: {path}", path)
    if len(value) > 50:
        raise invalid("You can specify up to 50 metadata keys.", path)
    for name, item in value.items():
        if len(name) > 40:
            raise invalid("Metadata keys can have up to 40 characters.", f"{path}[{name}]")
        if len(_is_text(item, f"{path}[{name}]")) > 500:
            raise invalid(
                f"Metadata values can have up to 500 characters, but you passed in a value that is "
                f"{len(item)} "
                "characters.",
                f"{path}[{name}]",
            )
    return dict(value)


def list_of(parser: Parser, most: int = 100) -> Parser:
    """A list."""

    def parse(value: Any, path: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, list):
            raise invalid("Invalid array", path)
        if len(value) > most:
            raise invalid(f"Array {path} exceeded maximum {most} allowed elements.", path)
        return [parser(item, f"{path}[{index}]") for index, item in enumerate(value)]

    return parse


def record(fields: Fields, unset: bool = False) -> Parser:
    """An object with these fields. With `unset` an empty text stands for "none of it"."""

    def parse(value: Any, path: str) -> dict[str, Any] | None:
        if unset and value == "":
            return None
        if not isinstance(value, dict):
            raise invalid("Invalid object", path)
        return check(fields, value, path)

    return parse


def time_range(value: Any, path: str) -> dict[str, int]:
    """`created=N`, or `created[gte]=N` and the like."""
    if isinstance(value, str):
        return {"eq": integer()(value, path)}
    return record({name: integer() for name in ("gt", "gte", "lt", "lte")})(value, path)  # type: ignore[no-any-return]


def check(fields: Fields, given: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The values of the parameters that are there. Raises ApiError for the first that is wrong."""
    for name in given:
        if name not in fields:
            where = f"{path}[{name}]" if path else name
            raise ApiError(
                f"Received unknown parameter: {where}", code="parameter_unknown", param=where, validation=True
            )
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        where = f"{path}[{name}]" if path else name
        required = isinstance(spec, Required)
        parser = spec.parser if isinstance(spec, Required) else spec
        if name not in given:
            if required:
                raise ApiError(
                    f"Missing required param: {where}.",
                    code="parameter_missing", param=where, validation=True,
                )  # fmt: skip
            continue
        if required and given[name] == "":
            raise ApiError(
                f"You passed an empty string for '{where}'. We assume empty values are an attempt to unset a "
                f"field; however '{where}' cannot be unset. You should remove '{where}' from your request or "
                "supply a non-empty value.",
                code="parameter_invalid_empty", param=where, validation=True,
            )  # fmt: skip
        values[name] = parser(given[name], where)
    return values


EXPAND: Fields = {"expand": list_of(text())}
PAGE: Fields = {
    "limit": integer(1, 100), "starting_after": text(), "ending_before": text(), "created": time_range,
    **EXPAND,
}  # fmt: skip
