"""Who is let in: by the gateway with verify_jwt, and by the functions themselves."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from scripts.local.stack import Stack
from tests.support.functions import HTTP, PAGES, post
from tests.support.served import Served
from tests.support.stack import Env, User

ORDER = {"package": "starter", **PAGES}


@pytest.fixture(scope="session")
def checkout(serve: Callable[..., Served]) -> Served:
    """The function by itself: no gateway looks at the token first."""
    return serve("checkout")


def claims(user: User, **changes: Any) -> dict[str, Any]:
    """Those of a good token, with changes; ... takes one out."""
    made = {
        "sub": user.id, "aud": "authenticated", "role": "authenticated", "email": user.email,
        "exp": int(time.time()) + 600, **changes,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not ...}


def encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def mac(text: str, key: bytes) -> str:
    """An HS256 signature; the library refuses to make one with a public key."""
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).rstrip(b"=").decode()


def test_users_of_this_project(checkout: Served, user: Callable[..., User], env: Env, stack: Stack) -> None:
    ann = user()
    keys = stack._keys()
    for token in (
        ann.token,
        jwt.encode(claims(ann), env.jwt_secret, algorithm="HS256"),
        jwt.encode(claims(ann, email=...), env.jwt_secret, algorithm="HS256"),
        jwt.encode(claims(ann, aud=["other", "authenticated"]), env.jwt_secret, algorithm="HS256"),
        jwt.encode(claims(ann), keys.es256_private_pem, algorithm="ES256", headers={"kid": keys.es256_kid}),
    ):
        answer = post(checkout.url, ORDER, Authorization=f"Bearer {token}")
        assert answer.status_code == 200, answer.text


def test_everybody_else(checkout: Served, user: Callable[..., User], env: Env, stack: Stack) -> None:
    ann = user()
    keys = stack._keys()
    head, body, signature = ann.token.split(".")
    public = json.dumps(keys.public_jwks()["keys"][0]).encode()
    confused = f"{encode({'alg': 'HS256', 'kid': keys.es256_kid})}.{body}"

    def hs256(**changes: Any) -> str:
        return jwt.encode(claims(ann, **changes), env.jwt_secret, algorithm="HS256")

    tokens = {
        "expired": hs256(exp=int(time.time()) - 5),
        "endless": hs256(exp=...),
        "not yet": hs256(nbf=int(time.time()) + 100),
        "exp a text": hs256(exp="x"),
        "other audience": hs256(aud="other"),
        "no audience": hs256(aud=...),
        "anon": hs256(role="anon"),
        "service_role": hs256(role="service_role"),
        "no role": hs256(role=...),
        "role a list": hs256(role=["authenticated"]),
        "nobody": hs256(sub=...),
        "anon key": env.anon_key,
        "service_role key": env.service_role_key,
        "publishable key": env.publishable_key,
        "secret key": env.secret_key,
        "other secret": jwt.encode(claims(ann), "x" * 40, algorithm="HS256"),
        "other algorithm": jwt.encode(claims(ann), env.jwt_secret * 2, algorithm="HS512"),
        "other key": jwt.encode(
            claims(ann),
            ec.generate_private_key(ec.SECP256R1()),
            algorithm="ES256",
            headers={"kid": keys.es256_kid},
        ),
        "unknown kid": jwt.encode(
            claims(ann), keys.es256_private_pem, algorithm="ES256", headers={"kid": "x"}
        ),
        "public key as secret": f"{confused}.{mac(confused, public)}",
        "alg none": f"{encode({'alg': 'none'})}.{body}.",
        "alg none, signed": f"{encode({'alg': 'none'})}.{body}.{signature}",
        "no alg": f"{encode({'typ': 'JWT'})}.{body}.{signature}",
        "alg a list": f"{encode({'alg': ['HS256']})}.{body}.{signature}",
        "kid a list": f"{encode({'alg': 'ES256', 'kid': []})}.{body}.{signature}",
        "header a list": f"{encode([])}.{body}.{signature}",
        "forged": f"{head}.{encode(claims(ann, sub='00000000-0000-4000-8000-000000000000'))}.{signature}",
        "unsigned": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "deep header": f"{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.{body}.{signature}",
        "words": "let me in",
        "dots": "..",
    }
    wrong = {}
    for name, token in tokens.items():
        answer = post(checkout.url, ORDER, Authorization=f"Bearer {token}", apikey=env.publishable_key)
        if (answer.status_code, answer.json()["code"]) != (401, "PT401"):
            wrong[name] = (answer.status_code, answer.text)
    assert not wrong
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {ann.token}"},
        {"Authorization": ann.token},
        {"apikey": ann.token},
    ):
        assert post(checkout.url, ORDER, **headers).status_code == 401, headers
    assert ann.token not in checkout.log()


def test_the_token_of_a_deleted_user(checkout: Served, user: Callable[..., User], env: Env) -> None:
    ann = user()
    env.client(env.secret_key).auth.admin.delete_user(ann.id)
    answer = post(checkout.url, ORDER, Authorization=f"Bearer {ann.token}")
    assert answer.status_code in (403, 404), answer.text


def test_jwt_secret_alone(serve: Callable[..., Served], user: Callable[..., User], env: Env) -> None:
    served = serve("billing-portal", SUPABASE_JWKS=None, JWT_SECRET=env.jwt_secret)
    home = {"return_url": PAGES["cancel_url"]}
    ann = user()
    legacy = jwt.encode(claims(ann), env.jwt_secret, algorithm="HS256")
    assert post(served.url, home, Authorization=f"Bearer {legacy}").json()["code"] == "PT404"
    assert post(served.url, home, **ann.headers(env)).status_code == 401  # ES256, whose key it does not know
    assert post(served.url, home, Authorization="Bearer x.y.z").status_code == 401


def test_the_published_keys_alone(serve: Callable[..., Served], user: Callable[..., User], env: Env) -> None:
    """As on a hosted project: SUPABASE_JWKS is what jwks.json says, and has no shared secret."""
    published = HTTP.get(f"{env.api_url}/auth/v1/.well-known/jwks.json").text
    served = serve("billing-portal", SUPABASE_JWKS=published)
    home = {"return_url": PAGES["cancel_url"]}
    ann = user()
    assert post(served.url, home, **ann.headers(env)).json()["code"] == "PT404"
    legacy = jwt.encode(claims(ann), env.jwt_secret, algorithm="HS256")
    assert post(served.url, home, Authorization=f"Bearer {legacy}").status_code == 401


# -- verify_jwt --------------------------------------------------------------------------------------


def test_verify_jwt(user: Callable[..., User], url: Callable[[str], str], env: Env) -> None:
    ann = user()
    none = HTTP.post(url("checkout"), json=ORDER)
    assert (none.status_code, none.json()["code"]) == (401, "UNAUTHORIZED_NO_AUTH_HEADER")
    for token in (
        "x",
        env.publishable_key,
        env.secret_key,
        ann.token + "x",
        jwt.encode(claims(ann), "x" * 40),
    ):
        answer = post(url("checkout"), ORDER, Authorization=f"Bearer {token}")
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED_INVALID_JWT_FORMAT")
    # The check asks for a token of the project, no more: the function refuses what is no user's.
    answer = post(url("checkout"), ORDER, Authorization=f"Bearer {env.anon_key}")
    assert (answer.status_code, answer.json()["code"]) == (401, "PT401")
    assert HTTP.options(url("checkout")).status_code == 204


def test_no_verify_jwt(url: Callable[[str], str]) -> None:
    assert HTTP.post(url("stripe-webhook"), content=b"{}").json()["code"] == "PT400"
    assert HTTP.post(url("stripe-reconcile"), json={}).json()["code"] == "PT401"


def test_a_browser_may_call_them(url: Callable[[str], str]) -> None:
    """The preflight is the function's own affair, on hosted projects and here."""
    sent = {"authorization", "apikey", "content-type", "idempotency-key", "x-client-info", "x-region",
            "x-retry-count", "traceparent", "tracestate", "baggage"}  # fmt: skip
    for name in ("checkout", "billing-portal", "generate"):
        asked = {
            "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ",".join(sorted(sent)),
        }  # fmt: skip
        answer = HTTP.options(url(name), headers=asked)
        assert answer.status_code == 204
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert sent <= set(answer.headers["access-control-allow-headers"].split(", "))
        assert "POST" in answer.headers["access-control-allow-methods"]
        refused = HTTP.post(url(name), json={}, headers={"Authorization": "Bearer x.y.z"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")
