"""Holds objects, events and requests to Stripe's official API description (OpenAPI 3.0, of one version).

    check_object(obj)    an object or a list of the API, as a dict
    check_event(event)   an event, the object in it, and that its type exists
    check_request(method, path, form)   form: what was sent, as a tree ({"line_items": [{"quantity": "1"}]})

Each raises AssertionError with the place and what is wrong. A property or parameter that the description does
not have is wrong too. The description is no part of this project: without it (see SPEC) the tests skip.
"""

import copy
import functools
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

JSON = dict[str, Any]

SPEC = Path(
    os.environ.get("STRIPE_SPEC")
    or Path(__file__).resolve().parents[3] / "shared" / "stripe" / "spec3.json.gz"
)
needs_spec = pytest.mark.skipif(
    not SPEC.exists(), reason=f"Stripe's API description is not at {SPEC} (STRIPE_SPEC names another place)"
)


@functools.cache
def _spec() -> JSON:
    with gzip.open(SPEC) as file:
        spec: JSON = json.load(file)
    return spec


def _strict(schema: Any) -> Any:
    """As JSON Schema: `nullable` becomes a type null, and an object with properties has no others.

    Stripe's schemas use neither allOf nor inheritance, so that closing an object loses nothing.
    """
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {
        name: {key: _strict(value) for key, value in item.items()} if name == "properties" else _strict(item)
        for name, item in schema.items()
        if not name.startswith("x-") and name not in ("description", "nullable", "title", "format", "enum")
    }
    if "enum" in schema:
        out["enum"] = schema["enum"]
    if schema.get("properties") and "additionalProperties" not in schema:
        out["additionalProperties"] = False
    return {"anyOf": [{"type": "null"}, out]} if schema.get("nullable") else out


@functools.cache
def _components() -> JSON:
    return {"schemas": {name: _strict(schema) for name, schema in _spec()["components"]["schemas"].items()}}


@functools.cache
def _validator(name: str) -> Any:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": _components()})


@functools.cache
def event_types() -> frozenset[str]:
    """Every type that an endpoint can select."""
    body = _body_schema("POST", "/v1/webhook_endpoints")
    return frozenset(body["properties"]["enabled_events"]["items"]["enum"])


def _check(validator: Any, value: Any, what: str) -> None:
    error = best_match(validator.iter_errors(value))
    if error is not None:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        raise AssertionError(f"{what}{place}: {error.message[:500]}")


def check_object(item: JSON) -> None:
    """An object as the API answers it; lists are checked item by item."""
    kind = item["object"]
    if kind == "list":
        assert set(item) == {"object", "data", "has_more", "url"}, f"list: {sorted(item)}"
        for each in item["data"]:
            check_object(each)
        return
    if kind == "event":
        check_event(item)
        return
    name = f"deleted_{kind}" if item.get("deleted") else kind
    assert name in _components()["schemas"], f"Stripe has no object {name}"
    _check(_validator(name), item, f"{name} {item.get('id')}")


def check_event(event: JSON) -> None:
    """An event and what it carries."""
    _check(_validator("event"), {**event, "data": {"object": {}}}, f"event {event['id']}")
    assert event["type"] in event_types(), f"Stripe has no event type {event['type']}"
    data = event["data"]
    assert set(data) <= {"object", "previous_attributes"}, f"{event['type']}: data has {sorted(data)}"
    check_object(data["object"])
    schema = _spec()["components"]["schemas"][data["object"]["object"]]
    unknown = set(data.get("previous_attributes") or {}) - set(schema["properties"])
    assert not unknown, f"{event['type']}: previous_attributes has {sorted(unknown)}"


# -- requests --------------------------------------------------------------------------------------


def _operation(method: str, path: str) -> tuple[str, JSON]:
    # A path without names in braces goes before one with: /v1/invoices/search is no invoice.
    for template in sorted(_spec()["paths"], key=lambda text: text.count("{")):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in _spec()["paths"][template]:
            return template, _spec()["paths"][template][method.lower()]
    raise AssertionError(f"Stripe has no endpoint {method} {path}")


def _body_schema(method: str, path: str) -> JSON:
    content: JSON = _operation(method, path)[1].get("requestBody", {}).get("content", {})
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        if kind in content:
            schema: JSON = content[kind]["schema"]
            return schema
    return {"type": "object", "properties": {}, "additionalProperties": False}


@functools.cache
def _request_validator(method: str, template: str) -> tuple[JSON, Any]:
    """The schema as Stripe gives it, to read the texts by, and its strict validator."""
    schema = copy.deepcopy(_body_schema(method, template))
    if method in ("GET", "DELETE"):
        for parameter in _operation(method, template)[1].get("parameters", []):
            if parameter["in"] == "query":
                schema.setdefault("properties", {})[parameter["name"]] = parameter["schema"]
                if parameter.get("required"):
                    schema.setdefault("required", []).append(parameter["name"])
    schema["additionalProperties"] = False
    return schema, Draft202012Validator({**_strict(schema), "components": _components()})


def _texts(value: Any) -> Any:
    """A tree of Python values as texts, as they travel."""
    if isinstance(value, dict):
        return {name: _texts(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _typed(schema: JSON, value: Any) -> Any:
    """A tree of texts with the types that the schema asks for, where the text fits."""
    options = schema.get("anyOf")
    if options:
        for option in options:
            typed = _typed(option, value)
            if Draft202012Validator({**_strict(option), "components": _components()}).is_valid(typed):
                return typed
        return value
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {name: _typed(known.get(name, others), item) for name, item in value.items()}
    if isinstance(value, list):
        return [_typed(schema.get("items", {}), item) for item in value]
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if schema.get("type") == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value)
    if schema.get("type") == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


def check_request(method: str, path: str, form: JSON) -> None:
    """A request by its method, path and decoded form (or query)."""
    template, _ = _operation(method, path)
    schema, validator = _request_validator(method, template)
    _check(validator, _typed(schema, _texts(form)), f"{method} {path} ")


def check_requests(log: list[JSON]) -> int:
    """The requests of Control.requests() that succeeded. Returns how many there were."""
    good = [entry for entry in log if entry["status"] == 200]
    for entry in good:
        check_request(entry["method"], entry["path"], entry["params"])
    return len(good)
