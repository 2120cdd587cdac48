"""Bad input of every kind: never a 5xx, and nothing changes."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.functions import HTTP, another, hmac_of, ledger_figures, signed
from tests.support.stack import Env, User

Paid = tuple[User, dict[str, Any]]
Connection = psycopg.Connection[Any]
Body = tuple[str, bytes]
LIMIT = 1024 * 1024


def spread(size: int, count: int) -> Iterator[int]:
    """`count` places in a body of that size, the first and the last among them."""
    return (round(n * (size - 1) / (count - 1)) for n in range(count))


def malformed(event: dict[str, Any]) -> Iterator[Body]:
    """Bodies that are not an event of Stripe's: each is refused with 400."""
    good = json.dumps(event).encode()
    for at in spread(len(good), 60):
        yield f"truncated at {at}", good[:at]
    for at in spread(len(good), 30):
        yield f"not UTF-8 at {at}", good[:at] + b"\xff" + good[at:]
    for at in spread(len(good), 20):
        yield f"NUL byte at {at}", good[:at] + b"\x00" + good[at:]
    for text in (
        "",
        "null",
        "true",
        "1",
        "-",
        '"x"',
        "[]",
        "[{}]",
        "{}",
        "{]",
        "NaN",
        "undefined",
        "<xml/>",
        "a=b",
    ):
        yield f"text {text!r}", text.encode()
    yield "byte order mark", b"\xef\xbb\xbf" + good
    yield "UTF-16", json.dumps(event).encode("utf-16")
    yield "two events", good + good
    yield "list of events", b"[" + good + b"]"
    yield "something behind it", good + b"x"
    yield "comment", b"/* */" + good
    yield "single quotes", good.replace(b'"', b"'")
    for depth in (5_000, 100_000):
        yield f"brackets {depth} deep", b"[" * depth
        yield f"objects {depth} deep", b'{"a":' * depth
        inner = b"[" * depth + b"]" * depth
        yield f"event with {depth} deep", good[:-1] + b',"deep":' + inner + b"}"
    for number in (
        "1e400",
        "-1e999999999",
        "NaN",
        "Infinity",
        "-Infinity",
        "1" * 5000,
        "01",
        "1.",
        ".5",
        "0x10",
        "+1",
    ):
        yield f"number {number[:20]}", good[:-1] + b',"n":' + number.encode() + b"}"
    for text in (r"\u0000", r"a\u0000b", r"\ud800", r"\udc00\ud800", r"\x", "\n", "\x01"):
        yield f"string {text!r}", good[:-1] + b',"s":"' + text.encode() + b'"}'
        yield f"name {text!r}", good[:-1] + b',"' + text.encode() + b'":1}'
    wrong: tuple[Any, ...] = (None, True, 0, 1.5, "", [], {}, ["x"], {"x": 1})
    for name in ("id", "object", "type"):
        for value in wrong:
            yield f"{name} {value!r}", json.dumps({**event, name: value}).encode()
    for value in (*wrong, "x", {"object": None}, {"object": []}, {"object": "x"}, {"object": 1}):
        yield f"data {value!r}", json.dumps({**event, "data": value}).encode()
    for value in (None, "true", 1, []):
        yield f"livemode {value!r}", json.dumps({**event, "livemode": value}).encode()
    for name in ("id", "object", "type", "data", "livemode"):
        yield f"no {name}", json.dumps({key: value for key, value in event.items() if key != name}).encode()
    for value in ("evt_", "cs_1", "evt_'; drop table x", "evt_" + "x" * 300, "evt_ä", " evt_1"):
        yield f"id {value[:20]!r}", json.dumps({**event, "id": value}).encode()
    for value in ("list", "v2.core.event", "Event", "charge"):
        yield f"object {value!r}", json.dumps({**event, "object": value}).encode()


def test_malformed_bodies(paid: Paid, url: Callable[[str], str], env: Env, db: Connection) -> None:
    before = ledger_figures(db)
    bodies = list(malformed(another(paid[1])))
    assert len(bodies) > 200
    wrong = []
    for name, body in bodies:
        answer = HTTP.post(
            url("stripe-webhook"), content=body, headers=signed(body, env.stripe_webhook_secret)
        )
        if answer.status_code != 400 or set(answer.json()) != {"message", "error", "code"}:
            wrong.append((name, answer.status_code, answer.text))
    assert not wrong
    assert ledger_figures(db) == before


def test_huge_bodies(paid: Paid, url: Callable[[str], str], env: Env, db: Connection) -> None:
    before = ledger_figures(db)
    good = json.dumps(paid[1]).encode()

    def chunks(body: bytes) -> Iterator[bytes]:
        yield from (body[at : at + 65536] for at in range(0, len(body), 65536))

    for size in (LIMIT + 1, 2 * LIMIT, 16 * LIMIT):
        body = good + b" " * (size - len(good))
        headers = signed(body, env.stripe_webhook_secret)
        for content in (body, chunks(body)):  # with Content-Length, and without
            answer = HTTP.post(url("stripe-webhook"), content=content, headers=headers)
            assert answer.status_code == 413, size
    assert ledger_figures(db) == before
    # As much as is allowed.
    body = good + b" " * (LIMIT - len(good))
    answer = HTTP.post(
        url("stripe-webhook"), content=chunks(body), headers=signed(body, env.stripe_webhook_secret)
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")


def test_a_length_that_is_not_true(url: Callable[[str], str]) -> None:
    """Told from the header: nobody waits for a body of that size."""
    target = urlsplit(url("stripe-webhook"))
    for length in ("1048577", "9" * 18):
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=10)
        connection.putrequest("POST", target.path)
        connection.putheader("Content-Length", length)
        connection.endheaders(b"{}")
        assert connection.getresponse().status == 413
        connection.close()


def signatures(payload: bytes, secret: str) -> Iterator[tuple[str, bytes | None]]:
    """Headers that do not prove that Stripe signed the payload just now."""
    now = int(time.time())
    good = hmac_of(payload, secret, now)
    yield "none", None
    for text in (
        "", ",", "=", "t", "t=", "v1=", f"t={now}", f"v1={good}", f"t=,v1={good}", f"t=x,v1={good}",
        f"t={now},v1=", f"t={now},v0={good}", f"t={now},v2={good}", f"t={now},V1={good}",
        f"T={now},v1={good}",
        f"t={now};v1={good}", f"t={now} v1={good}", f"t={now + 1},v1={good}", f"t={now}.5,v1={good}",
        f"t=-{now},v1={good}", f"t={'9' * 5000},v1={good}", f"t={now},v1={good[:-1]}", f"t={now},v1={good}0",
        f"t={now},v1={good[::-1]}", f"t={now},v1={'0' * 64}", f"t=1,t={now},v1={good}", f"t={now},v1 ={good}",
        f"t={now},v1={'0' * 64},v1={'1' * 64}", f"t=nan,v1={good}", f"t=1e9,v1={good}", good, "x" * 8000,
        f"t={now - 301},v1={hmac_of(payload, secret, now - 301)}", f"t=0,v1={hmac_of(payload, secret, 0)}",
        f"t={now + 310},v1={hmac_of(payload, secret, now + 310)}",
        f"t={now},v1={hmac_of(payload, secret + 'x', now)}", f"t={now},v1={hmac_of(payload, '', now)}",
        f"t={now},v1={hmac_of(payload + b' ', secret, now)}", f"t={now},v1={hmac_of(b'', secret, now)}",
    ):  # fmt: skip
        yield text[:60], text.encode()
    yield "not ASCII", f"t={now},v1=".encode() + "ключ".encode()
    yield "not ASCII beside a good one", f"t={now},v1={good},v1=".encode() + "ключ".encode()


def test_wrong_signatures(paid: Paid, url: Callable[[str], str], env: Env, db: Connection) -> None:
    before = ledger_figures(db)
    payload = json.dumps(paid[1]).encode()
    wrong = []
    for name, header in signatures(payload, env.stripe_webhook_secret):
        headers = {} if header is None else {b"stripe-signature": header}
        answer = HTTP.post(url("stripe-webhook"), content=payload, headers=headers)
        if answer.status_code != 400:
            wrong.append((name, answer.status_code, answer.text))
    assert not wrong
    assert ledger_figures(db) == before


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each value in a JSON value."""
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """The value with another one in that place."""
    if not path:
        return new
    copy: Any = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("junk", [None, 10**30, "x", [{}]], ids=repr)
def test_objects_with_one_wrong_value(
    junk: Any, paid: Paid, url: Callable[[str], str], env: Env, db: Connection
) -> None:
    """Signed events whose object is not what it should be: kept or refused, no 5xx, never granted twice."""
    user, event = paid
    item = event["data"]["object"]
    wrong = []
    ids = []
    for path in paths(item):
        if path == ("id",):
            continue  # another session, and well paid
        made = another(event, data={"object": changed(item, path, junk)})
        ids.append(made["id"])
        body = json.dumps(made).encode()
        answer = HTTP.post(
            url("stripe-webhook"), content=body, headers=signed(body, env.stripe_webhook_secret)
        )
        if answer.status_code >= 500:
            wrong.append((path, answer.status_code, answer.text))
    assert not wrong
    row = db.execute(
        "select coalesce(sum(t.amount), 0) from public.credit_transactions as t "
        "inner join public.credit_accounts as a on t.account_id = a.id "
        "where a.user_id = %s and t.kind = 'grant' and t.amount > 10", [user.id],
    ).fetchone()  # fmt: skip
    assert row and row[0] in (0, 50)
    db.execute("delete from credits.stripe_events where id = any(%s)", [ids])
