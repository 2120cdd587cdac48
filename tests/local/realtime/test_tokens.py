"""Which tokens open a connection and a channel, and when they end."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.local.realtime.client import SUBSCRIBED, address, change, raw
from tests.support.stack import Env, User

MakeUser = Callable[..., User]


def signed(env: Env, secret: str | None = None, **claims: Any) -> str:
    return jwt.encode({"role": "authenticated", **claims}, secret or env.jwt_secret, "HS256")


@pytest.mark.parametrize(
    ("key", "vsn", "status", "message"),
    [
        ("", "1.0.0", 401, "No API key found in request"), ("wrong", "1.0.0", 401, "Invalid API key"),
        ("{token}", "1.0.0", 401, "Invalid API key"), ("{key}", "3.0.0", 400, "speaks vsn 1.0.0 and 2.0.0"),
    ],
)  # fmt: skip
def test_a_connection_needs_a_key(
    env: Env, user: MakeUser, key: str, vsn: str, status: int, message: str
) -> None:
    base = address(env).partition("?")[0]
    given = key.format(token=user().token, key=env.publishable_key)
    with pytest.raises(InvalidStatus) as refused, connect(f"{base}?apikey={given}&vsn={vsn}", proxy=None):
        pass
    assert refused.value.response.status_code == status
    assert message in refused.value.response.body.decode()


def refusals(env: Env, user_id: str) -> Iterator[tuple[str, str]]:
    """Tokens that are right but for one thing, and what is said of them."""
    until = int(time.time()) + 600
    broken, unsigned = "MalformedJWT: The token provided is not a valid JWT", "JwtSignatureError: Failed to"
    yield signed(env, sub=user_id, exp=until - 700), "InvalidJWTToken: Token has expired 10"
    yield signed(env, "x" * 40, sub=user_id, exp=until), unsigned
    yield signed(env, sub=user_id), "InvalidJWTToken: Fields `role` and `exp` are required in JWT"
    yield signed(env, sub=user_id, exp=until, role=7), "InvalidJWTToken: Fields `role` and `exp` are required"
    yield jwt.encode({"role": "service_role", "exp": until}, "", "none"), broken
    other = ec.generate_private_key(ec.SECP256R1())
    yield jwt.encode({"role": "service_role", "exp": until}, other, "ES256"), unsigned
    yield "nonsense", broken
    yield "a.b.c", broken


def test_forged_and_expired_tokens_are_refused(env: Env, user: MakeUser) -> None:
    mine = user()
    with raw(env) as client:
        for token, reason in refusals(env, mine.id):
            answer = client.join("any", token, change("credit_accounts"))
            assert answer["status"] == "error"
            assert answer["response"]["reason"].startswith(reason), answer
        # A role that is none of the API's gets nothing.
        for role in ("postgres", "supabase_admin", "nobody", "authenticator; drop table x"):
            token = signed(env, role=role, exp=int(time.time()) + 600)
            client.join(role, token, change("credit_accounts"))
            said = client.until("system").payload
            assert said["status"] == "error" and "is none that a token may have" in said["message"]
        # The connection is as good as before.
        client.watch("mine", mine.token, change("credit_accounts"))


def test_a_token_renewed_is_heard_with(env: Env, user: MakeUser) -> None:
    """The channel goes on, as whoever the new token is of."""
    mine, other = user(), user()
    with raw(env) as client:
        client.watch("a", mine.token, change("credit_accounts"))
        client.say("realtime:a", "access_token", {"access_token": env.publishable_key})  # no token: ignored
        client.say("realtime:a", "access_token", {"access_token": other.token})
        assert client.until("system").payload["message"] == SUBSCRIBED
        mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        other.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        assert client.hear_change()["data"]["record"]["user_id"] == other.id


def test_a_renewal_with_a_forged_token_ends_the_channel(env: Env, user: MakeUser) -> None:
    mine = user()
    with raw(env) as client:
        for number, (token, reason) in enumerate(refusals(env, mine.id)):
            client.watch(f"{number}", mine.token, change("credit_accounts"))
            client.say(f"realtime:{number}", "access_token", {"access_token": token})
            said = client.until("system").payload
            assert (said["extension"], said["status"]) == ("system", "error")
            assert said["message"].startswith(reason.partition(": ")[2])
            assert client.until("phx_close").topic == f"realtime:{number}"
        # Nothing is left of them.
        client.watch("last", mine.token, change("credit_accounts"))
        mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        heard = client.until("postgres_changes")
        assert heard.topic == "realtime:last"


def test_a_channel_ends_with_its_token(env: Env, user: MakeUser) -> None:
    mine = user()
    with raw(env) as client:
        short = signed(env, sub=mine.id, exp=int(time.time()) + 2)
        client.watch("short", short, change("credit_accounts"))
        client.watch("long", mine.token, change("credit_accounts"))
        said = client.until("system").payload
        assert said == {
            "extension": "system", "status": "error", "channel": "short",
            "message": "Token has expired 0 seconds ago",
        }  # fmt: skip
        assert client.until("phx_close").topic == "realtime:short"
        mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        assert client.until("postgres_changes").topic == "realtime:long"
        assert client.ask("realtime:short", "broadcast", {})["response"] == {"reason": "unmatched topic"}


def test_an_ended_session_is_not_looked_up(env: Env, user: MakeUser, db: "psycopg.Connection[Any]") -> None:
    """As hosted a token is good until it expires; of a user who is gone there is nothing to see."""
    mine = user()
    with raw(env) as client:
        client.watch("gone", mine.token, change("credit_accounts"))
        account = db.execute("select id from public.credit_accounts where user_id = %s", [mine.id]).fetchone()
        assert account and isinstance(account[0], uuid.UUID)
        db.execute("delete from auth.users where id = %s", [mine.id])
        other = user()
        client.watch("other", other.token, change("credit_accounts"))
        other.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        heard = client.until("postgres_changes", lambda heard: heard.payload["data"]["type"] == "UPDATE")
        assert heard.topic == "realtime:other"
