"""Tokens that are not what they should be get 401 or 403, a clear message, and never data."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from scripts.local.stack import Stack
from supabase import Client
from tests.support.rest import HTTP, Caller, Person, code
from tests.support.stack import Env, User

Claims = dict[str, Any]
NEVER = object()
NOBODY = "00000000-0000-4000-8000-0000000000ff"


def encode(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def sign(claims: Claims, secret: str, **header: Any) -> str:
    """A token signed with HS256, by hand: libraries refuse to make the ones that are wrong."""
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT', **header})}.{encode(claims)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def claims_of(person: Person, **changes: Any) -> Claims:
    """What Auth puts into a user's token; a change to NEVER takes a claim out."""
    now = int(time.time())
    claims: Claims = {
        "sub": person.user.id, "role": "authenticated", "aud": "authenticated", "iat": now, "exp": now + 600,
    }  # fmt: skip
    claims |= changes
    return {name: value for name, value in claims.items() if value is not NEVER}


@pytest.fixture
def ann(person: Callable[[], Person]) -> Person:
    return person()


@pytest.fixture
def as_token(env: Env, rest: str) -> Callable[[str], Caller]:
    return lambda token: Caller(
        "authenticated", rest, {"apikey": env.publishable_key, "Authorization": f"Bearer {token}"}
    )


def refused(caller: Caller, owner: Person, status: set[int], message: str) -> None:
    """Every kind of request is refused, with words, and tells nothing of the owner."""
    for answer in (
        caller.get("credit_accounts?select=*"),
        caller.get("credit_transactions?select=*"),
        caller.get("pricing_tiers?select=*"),
        caller.rpc("my_credits"),
        caller.rpc("consume_credits", operation="security_test"),
        caller.rpc("grant_credits", user_id=owner.user.id, amount=1, source="bonus"),
        caller.get(""),
    ):
        assert answer.status_code in status, answer.text
        assert message in answer.json()["message"]
        assert not any(secret in answer.text for secret in owner.secrets)
    assert owner.caller.rpc("my_credits").json()["balance"] == 113


def test_a_good_token_is_accepted(ann: Person, env: Env, as_token: Callable[[str], Caller]) -> None:
    """Else every refusal below could have another reason."""
    for changes in ({}, {"aud": ["authenticated"]}, {"aud": ["other", "authenticated"]}):
        caller = as_token(sign(claims_of(ann, **changes), env.jwt_secret))
        assert caller.rpc("my_credits").json()["balance"] == 113
        assert [row["id"] for row in caller.get("credit_accounts?select=id").json()] == [ann.account_id]


# The message is ours where the pre-request check refuses, PostgREST's where the token itself is bad.
WRONG_CLAIMS: dict[str, tuple[Claims, str]] = {
    "expired": ({"exp": 1_000_000_000}, "JWT expired"),
    "no exp": ({"exp": NEVER}, "The token never expires."),
    "exp null": ({"exp": None}, "The token never expires."),
    "exp as string": ({"exp": "4102444800"}, "parsing NumericDate failed"),
    "not valid yet": ({"nbf": 4_000_000_000}, "JWTNotYetValid"),
    "issued in the future": ({"iat": 4_000_000_000}, "JWTIssuedAtFuture"),
    "other aud": ({"aud": "other"}, "The token is meant for another audience."),
    "no aud": ({"aud": NEVER}, "The token is meant for another audience."),
    "aud null": ({"aud": None}, "The token is meant for another audience."),
    "aud a list without ours": ({"aud": ["other"]}, "The token is meant for another audience."),
    "aud an empty list": ({"aud": []}, "JWTNotInAudience"),
    "aud an object": ({"aud": {"authenticated": 1}}, "parsing StringOrURI failed"),
    "no sub": ({"sub": NEVER}, "The token names no user."),
    "sub empty": ({"sub": ""}, "The token names no user."),
    "sub not a uuid": ({"sub": "ann"}, "The token names no user."),
    "sub a uuid and more": ({"sub": f"{NOBODY}' or true"}, "The token names no user."),
    "sub a number": ({"sub": 1}, "parsing StringOrURI failed"),
    "service_role without exp": ({"role": "service_role", "exp": NEVER}, "The token never expires."),
    "role pricing_admin": ({"role": "pricing_admin"}, 'permission denied to set role "pricing_admin"'),
    "role postgres": ({"role": "postgres"}, 'permission denied to set role "postgres"'),
    "role supabase_admin": ({"role": "supabase_admin"}, 'permission denied to set role "supabase_admin"'),
    "role supabase_auth_admin": ({"role": "supabase_auth_admin"}, "permission denied to set role"),
    "role authenticator": ({"role": "authenticator"}, "permission denied for schema credits"),
    # PostgREST answers 400 here: Postgres calls it a wrong value, not a refusal.
    "role nonexistent": ({"role": "nonexistent"}, 'role "nonexistent" does not exist'),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CLAIMS)
def test_a_token_with_wrong_claims_is_refused(
    name: str, ann: Person, env: Env, as_token: Callable[[str], Caller]
) -> None:
    changes, message = WRONG_CLAIMS[name]
    status = {400} if name == "role nonexistent" else {401, 403}
    refused(as_token(sign(claims_of(ann, **changes), env.jwt_secret)), ann, status, message)


def test_a_token_that_is_not_signed_by_the_project_is_refused(
    ann: Person, env: Env, as_token: Callable[[str], Caller]
) -> None:
    good = sign(claims_of(ann), env.jwt_secret)
    head, body, signature = good.split(".")
    forged = encode(claims_of(ann, role="service_role"))
    for token, message in (
        (sign(claims_of(ann), "another-secret-of-at-least-32-characters"), "JWSInvalidSignature"),
        (
            sign(claims_of(ann, role="service_role"), "another-secret-of-at-least-32-characters"),
            "JWSInvalidSignature",
        ),
        (sign(claims_of(ann), ""), "JWSInvalidSignature"),
        (f"{encode({'alg': 'none'})}.{body}.", "JWSNoSignatures"),
        (f"{encode({'alg': 'None'})}.{body}.", "JWSError"),
        (f"{encode({'alg': 'none'})}.{body}.{signature}", "JWSNoSignatures"),
        (f"{head}.{forged}.{signature}", "JWSInvalidSignature"),
        (f"{head}.{body}.", "JWSInvalidSignature"),
        (f"{head}.{body}", "JWSError"),
        ("not-a-token", "JWSError"),
    ):
        refused(as_token(token), ann, {401, 403}, message)


def test_no_role_means_anon(ann: Person, env: Env, as_token: Callable[[str], Caller]) -> None:
    caller = as_token(sign(claims_of(ann, role=NEVER), env.jwt_secret))
    assert caller.get("pricing_tiers").status_code == 200
    for answer in (caller.get("credit_accounts"), caller.rpc("my_credits")):
        assert (answer.status_code, code(answer)) == (401, "42501")


def test_es256_tokens_with_the_projects_key_only(
    ann: Person, stack: Stack, as_token: Callable[[str], Caller]
) -> None:
    keys = stack._keys()
    headers = {"kid": keys.es256_kid}
    good = jwt.encode(claims_of(ann), keys.es256_private_pem, algorithm="ES256", headers=headers)
    assert as_token(good).rpc("my_credits").json()["balance"] == 113
    other = jwt.encode(
        claims_of(ann), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=headers
    )
    refused(as_token(other), ann, {401, 403}, "JWSInvalidSignature")
    # The public key is no shared secret: signing HS256 with it is the classic confusion of the two.
    public = json.dumps(keys.public_jwks()["keys"][0])
    refused(
        as_token(sign(claims_of(ann), public, kid=keys.es256_kid)), ann, {401, 403}, "JWSInvalidSignature"
    )


def test_the_keys(ann: Person, env: Env, rest: str) -> None:
    table = f"{rest}/credit_accounts?select=id&id=eq.{ann.account_id}"
    for headers, status in (
        ({}, 401),
        ({"apikey": "sb_secret_wrong"}, 401),
        ({"apikey": env.publishable_key[:-1]}, 401),
        ({"apikey": env.publishable_key}, 401),
        ({"apikey": env.anon_key}, 401),
        # A publishable key opens no more when somebody puts a word into the other header.
        ({"apikey": env.publishable_key, "Authorization": f"Bearer {env.secret_key}"}, 401),
        ({"apikey": env.publishable_key, "Authorization": "Bearer sb_secret_wrong"}, 401),
        ({"apikey": env.secret_key}, 200),
        ({"apikey": env.service_role_key}, 200),
    ):
        answer = HTTP.get(table, headers=headers)
        assert answer.status_code == status, (headers, answer.text)
        assert (ann.account_id in answer.text) == (status == 200)
        if status != 200:
            assert answer.json()["message"]


def test_the_token_of_a_deleted_user_opens_nothing(ann: Person, service: Client) -> None:
    service.auth.admin.delete_user(ann.user.id)
    for relation in ("credit_accounts", "credit_transactions", "credit_holds", "user_credits"):
        answer = ann.caller.get(relation, Prefer="count=exact")
        assert (answer.json(), answer.headers["content-range"]) == ([], "*/0")
    for function, arguments in (
        ("my_credits", {}),
        ("consume_credits", {"operation": "security_test"}),
        ("hold_credits", {"operation": "security_test"}),
        ("consume_credits", {"operation": "security_test", "quantity": 3, "idempotency_key": ann.key}),
    ):
        answer = ann.caller.rpc(function, **arguments)
        assert (answer.status_code, code(answer)) == (404, "PT404"), function
        assert ann.account_id not in answer.text


def test_a_token_of_another_project_user_id_is_nobody(env: Env, user: Callable[..., User], rest: str) -> None:
    """A well-made token for a user that Auth does not know."""
    now = int(time.time())
    token = sign(
        {
            "sub": NOBODY,
            "role": "authenticated",
            "aud": "authenticated",
            "exp": now + 60,
        },
        env.jwt_secret,
    )
    caller = Caller(
        "authenticated", rest, {"apikey": env.publishable_key, "Authorization": f"Bearer {token}"}
    )
    assert caller.get("credit_accounts").json() == []
    answer = caller.rpc("consume_credits", operation="image_edit", idempotency_key="k")
    assert (answer.status_code, code(answer)) == (404, "PT404")
