"""The auth stand-in, through supabase-py where that has a call, over HTTP where it has not."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from supabase import AuthApiError, AuthError, AuthWeakPasswordError, Client
from tests.support.stack import Env, User

MakeUser = Callable[..., User]


def fresh_email() -> str:
    return f"new-{uuid.uuid4().hex}@example.com"


def call(env: Env, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
    headers = {"apikey": env.publishable_key, **options.pop("headers", {})}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.request(method, f"{env.api_url}/auth/v1{path}", headers=headers, timeout=20, **options)


def test_sign_up_signs_in_at_once(env: Env, user: MakeUser) -> None:
    made = user(full_name="Ada")
    # As `supabase start` and hosted projects sign them: with the one key that everybody can read.
    published = httpx.get(f"{env.api_url}/auth/v1/.well-known/jwks.json").json()["keys"]
    (key,) = (key for key in published if key["kid"] == jwt.get_unverified_header(made.token)["kid"])
    claims = jwt.decode(made.token, jwt.PyJWK(key), algorithms=["ES256"], audience="authenticated")
    assert claims["sub"] == made.id
    assert claims["iss"] == f"{env.api_url}/auth/v1"
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["role"], claims["email"], claims["aal"]) == ("authenticated", made.email, "aal1")
    assert claims["user_metadata"]["full_name"] == "Ada"
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert claims["is_anonymous"] is False
    assert uuid.UUID(claims["session_id"])
    assert claims["amr"][0]["method"] == "password"

    shown = made.client.auth.get_user()
    assert shown
    assert shown.user.email == made.email
    assert shown.user.email_confirmed_at is not None
    assert [identity.provider for identity in shown.user.identities or []] == ["email"]


def test_the_client_verifies_tokens_by_itself(user: MakeUser) -> None:
    made = user()
    verified = made.client.auth.get_claims()
    assert verified and verified["claims"]["sub"] == made.id
    head, body, signature = made.token.split(".")
    with pytest.raises(AuthError):
        made.client.auth.get_claims(jwt=f"{head}.{body}.{signature[::-1]}")


def test_sign_in_with_password(env: Env, user: MakeUser) -> None:
    made = user()
    answer = env.client().auth.sign_in_with_password({"email": made.email.upper(), "password": made.password})
    assert answer.user and answer.user.id == made.id


@pytest.mark.parametrize("who", ["unknown", "wrong password", "very long password"])
def test_sign_in_refused(env: Env, user: MakeUser, who: str) -> None:
    made = user()
    email = fresh_email() if who == "unknown" else made.email
    password = "x" * 5000 if who == "very long password" else "wrong"
    with pytest.raises(AuthApiError) as caught:
        env.client().auth.sign_in_with_password({"email": email, "password": password})
    assert (caught.value.status, caught.value.code) == (400, "invalid_credentials")


def test_refresh_rotates(user: MakeUser) -> None:
    made = user()
    before = made.client.auth.get_session()
    answer = made.client.auth.refresh_session()
    assert before and answer.session and answer.user
    assert answer.user.id == made.id
    assert answer.session.refresh_token != before.refresh_token
    old, new = (
        jwt.decode(token, options={"verify_signature": False})
        for token in (made.token, answer.session.access_token)
    )
    assert old["session_id"] == new["session_id"]


def refresh(env: Env, token: str) -> httpx.Response:
    return call(env, "POST", "/token?grant_type=refresh_token", json={"refresh_token": token})


def test_reuse_of_a_refresh_token_revokes_the_session(
    env: Env, user: MakeUser, db: "psycopg.Connection[Any]"
) -> None:
    session = user().client.auth.get_session()
    assert session
    first = session.refresh_token
    second = refresh(env, first).json()["refresh_token"]
    # The client that lost the answer asks again, and gets the same one.
    assert refresh(env, first).json()["refresh_token"] == second
    third = refresh(env, second).json()["refresh_token"]
    # Long after both were used, somebody comes with the first.
    db.execute(
        "update auth.refresh_tokens set updated_at = now() - interval '1 hour' where token = %s", [first]
    )
    stolen = refresh(env, first)
    assert (stolen.status_code, stolen.json()["error_code"]) == (400, "refresh_token_already_used")
    db.execute(
        "update auth.refresh_tokens set updated_at = now() - interval '1 hour' where token = %s", [third]
    )
    assert refresh(env, third).status_code == 400


def test_concurrent_refreshes_of_one_token_agree(env: Env, user: MakeUser) -> None:
    session = user().client.auth.get_session()
    assert session
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refresh(env, session.refresh_token), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


def test_unknown_refresh_token(env: Env) -> None:
    answer = refresh(env, "nosuchtoken0")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "refresh_token_not_found")


def test_update_user(env: Env, user: MakeUser) -> None:
    made = user(a=1, b=2)
    elsewhere = env.client().auth.sign_in_with_password({"email": made.email, "password": made.password})
    assert elsewhere.session
    changed = made.client.auth.update_user({"password": "another horse", "data": {"b": None, "c": 3}})
    assert {key: changed.user.user_metadata.get(key) for key in "abc"} == {"a": 1, "b": None, "c": 3}
    # The other session ended, this one goes on.
    assert refresh(env, elsewhere.session.refresh_token).status_code == 400
    assert made.client.auth.get_user()
    env.client().auth.sign_in_with_password({"email": made.email, "password": "another horse"})

    # A new address counts once its code has come back.
    email = fresh_email()
    asked = made.client.auth.update_user({"email": email}).user
    assert (asked.email, asked.new_email) == (made.email, email)
    with pytest.raises(AuthApiError) as caught:
        made.client.auth.update_user({"email": user().email})
    assert (caught.value.status, caught.value.code) == (422, "email_exists")
    refused = call(env, "PUT", "/user", made.token, json={"app_metadata": {"role": "king"}})
    assert (refused.status_code, refused.json()["error_code"]) == (403, "not_admin")


@pytest.mark.parametrize(
    ("scope", "here", "there"), [("global", 403, 403), ("local", 403, 200), ("others", 200, 403)]
)
def test_sign_out(env: Env, user: MakeUser, scope: str, here: int, there: int) -> None:
    made = user()
    other = env.client().auth.sign_in_with_password({"email": made.email, "password": made.password})
    assert other.session
    options: Any = {"scope": scope}
    made.client.auth.sign_out(options)
    assert call(env, "GET", "/user", made.token).status_code == here
    assert call(env, "GET", "/user", other.session.access_token).status_code == there


def test_existing_email(env: Env, user: MakeUser) -> None:
    made = user()
    for email in (made.email, made.email.upper()):
        with pytest.raises(AuthApiError) as caught:
            env.client().auth.sign_up({"email": email, "password": "correct horse"})
        assert (caught.value.status, caught.value.code) == (422, "user_already_exists")


def test_simultaneous_sign_ups_of_one_email(env: Env) -> None:
    body = {"email": fresh_email(), "password": "correct horse"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: call(env, "POST", "/signup", json=body), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422, 422]


def test_weak_password(env: Env) -> None:
    with pytest.raises(AuthWeakPasswordError) as caught:
        env.client().auth.sign_up({"email": fresh_email(), "password": "short"})
    assert caught.value.reasons == ["length"]


def test_errors_have_the_shape_that_the_client_asks_for(env: Env) -> None:
    body = {"email": fresh_email(), "password": "whatever"}
    old = call(env, "POST", "/token?grant_type=password", json=body)
    assert old.json() == {
        "code": 400,
        "error_code": "invalid_credentials",
        "msg": "Invalid login credentials",
    }
    new = call(
        env, "POST", "/token?grant_type=password", json=body, headers={"X-Supabase-Api-Version": "2024-01-01"}
    )
    assert new.json() == {"code": "invalid_credentials", "message": "Invalid login credentials"}


GOOD = {"email": "x@example.com", "password": "long enough"}
BAD: dict[str, bytes] = {
    "not JSON": b"{",
    "an array": b"[]",
    "a string": b'"hello"',
    "a number": b"7",
    "null": b"null",
    "not UTF-8": b"\xff\xfe\x00",
    "NaN": b'{"email": "x@example.com", "password": "long enough", "data": {"n": NaN}}',
    "nested too deep": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge integer": b'{"data": {"n": '
    + b"9" * 100_000
    + b'}, "email": "big@example.com", "password": "long enough"}',
    "infinite float": b'{"data": {"n": 1e999999}, "email": "inf@example.com", "password": "long enough"}',
    "NUL in metadata": json.dumps({**GOOD, "data": {"a": ["\0"]}}).encode(),
    "NUL in a key": json.dumps({**GOOD, "data": {"\0": 1}}).encode(),
    "half a surrogate": b'{"email": "x@example.com", "password": "long enough", "data": {"a": "\\ud800"}}',
    "email a number": json.dumps({**GOOD, "email": 7}).encode(),
    "email a list": json.dumps({**GOOD, "email": ["x@example.com"]}).encode(),
    "email with NUL": json.dumps({**GOOD, "email": "x\0@example.com"}).encode(),
    "email without @": json.dumps({**GOOD, "email": "example.com"}).encode(),
    "email too long": json.dumps({**GOOD, "email": "x" * 300 + "@example.com"}).encode(),
    "password a number": json.dumps({**GOOD, "password": 12345678}).encode(),
    "password too long": json.dumps({**GOOD, "password": "x" * 73}).encode(),
    "no password": json.dumps({"email": "x@example.com"}).encode(),
    "data a list": json.dumps({**GOOD, "data": []}).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sign_ups_are_400(env: Env, name: str) -> None:
    answer = call(env, "POST", "/signup", content=BAD[name], headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == 400
    assert answer.json()["error_code"]
    assert answer.json()["msg"]


def test_no_bad_body_is_a_server_error_anywhere(env: Env, user: MakeUser, service: Client) -> None:
    made = user()
    for content in BAD.values():
        for method, path, token in (
            ("POST", "/token?grant_type=password", None),
            ("POST", "/token?grant_type=refresh_token", None),
            ("PUT", "/user", made.token),
            ("POST", "/admin/users", env.service_role_key),
            ("PUT", f"/admin/users/{made.id}", env.service_role_key),
            ("DELETE", f"/admin/users/{uuid.uuid4()}", env.service_role_key),
        ):
            answer = call(env, method, path, token, content=content)
            assert answer.status_code < 500, (method, path, content[:80], answer.text)


def test_too_large_a_body(env: Env) -> None:
    answer = call(env, "POST", "/signup", json={**GOOD, "data": {"a": "x" * 2_000_000}})
    assert answer.status_code == 413


def test_sign_up_without_email_is_refused(env: Env) -> None:
    with pytest.raises(AuthApiError) as caught:
        env.client().auth.sign_in_anonymously()
    assert (caught.value.status, caught.value.code) == (422, "anonymous_provider_disabled")


def test_unknown_grants_and_paths(env: Env) -> None:
    assert call(env, "POST", "/token?grant_type=magic", json={}).status_code == 400
    assert call(env, "POST", "/token", json={}).status_code == 400
    for method, path, status in (
        ("POST", "/nothing", 404), ("POST", "/factors", 404), ("GET", "/", 404),
        ("DELETE", "/user/identities/x", 404), ("GET", "/signup", 405), ("DELETE", "/user", 405),
    ):  # fmt: skip
        answer = call(env, method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"code", "error_code", "msg"}
        assert answer.json()["code"] == status
        assert f"{method} {path}" in answer.json()["msg"]
    new = call(env, "POST", "/factors", json={}, headers={"X-Supabase-Api-Version": "2024-01-01"})
    assert set(new.json()) == {"code", "message"}
    with pytest.raises(AuthApiError) as caught:  # and not AuthRetryableError or AuthUnknownError
        env.client().auth.sign_in_with_sso({"domain": "example.com"})
    assert (caught.value.status, caught.value.code) == (404, "feature_disabled")


def test_pkce_says_what_is_missing(env: Env) -> None:
    for body in ({}, {"auth_code": "x"}, {"code_verifier": "x"}, {"auth_code": "", "code_verifier": "x"}):
        answer = call(env, "POST", "/token?grant_type=pkce", json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "validation_failed")
        assert "both auth code and code verifier" in answer.json()["msg"]
    unknown = call(env, "POST", "/token?grant_type=pkce", json={"auth_code": "x", "code_verifier": "y"})
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "flow_state_not_found")


def test_a_banned_user_is_told_so(env: Env, user: MakeUser, service: Client) -> None:
    made = user()
    session = made.client.auth.get_session()
    assert session
    service.auth.admin.update_user_by_id(made.id, {"ban_duration": "1h"})
    for answer, status in (
        (call(env, "GET", "/user", made.token), 403),
        (call(env, "PUT", "/user", made.token, json={"data": {"a": 1}}), 403),
        (call(env, "POST", "/logout", made.token), 403),
        (refresh(env, session.refresh_token), 400),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (status, "user_banned")
    service.auth.admin.update_user_by_id(made.id, {"ban_duration": "none"})
    assert call(env, "GET", "/user", made.token).json()["user_metadata"].get("a") is None


@pytest.mark.parametrize(
    "kind",
    [
        "none", "not a token", "anon key", "expired", "wrong secret", "wrong key", "alg none", "no exp",
        "unknown user",
    ],
)  # fmt: skip
def test_bad_tokens(env: Env, user: MakeUser, kind: str) -> None:
    good = user().token
    claims = jwt.decode(good, options={"verify_signature": False})

    def sign(changed: dict[str, Any], secret: str = env.jwt_secret) -> str:
        return jwt.encode(changed, secret, algorithm="HS256")

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    tokens = {
        "none": None,
        "not a token": "abc",
        "anon key": env.anon_key,
        "expired": sign({**claims, "exp": int(time.time()) - 10}),
        "wrong secret": sign(claims, "x" * 40),
        "wrong key": jwt.encode(
            claims,
            ec.generate_private_key(ec.SECP256R1()),
            "ES256",
            {"kid": jwt.get_unverified_header(good)["kid"]},
        ),
        "alg none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.",
        "no exp": sign({key: value for key, value in claims.items() if key != "exp"}),
        "unknown user": sign({**claims, "sub": str(uuid.uuid4())}),
    }
    answer = call(env, "GET", "/user", tokens[kind])
    assert answer.status_code in (401, 403)


# -- admin ---------------------------------------------------------------------------------------


def test_admin_users(env: Env, service: Client) -> None:
    email = fresh_email()
    made = service.auth.admin.create_user(
        {
            "email": email,
            "password": "correct horse",
            "email_confirm": True,
            "user_metadata": {"a": 1},
            "app_metadata": {"b": 2},
        }
    ).user
    assert made.email == email
    assert made.app_metadata == {"provider": "email", "providers": ["email"], "b": 2}
    env.client().auth.sign_in_with_password({"email": email, "password": "correct horse"})

    with pytest.raises(AuthApiError) as caught:
        service.auth.admin.create_user({"email": email})
    assert (caught.value.status, caught.value.code) == (422, "email_exists")

    assert service.auth.admin.get_user_by_id(made.id).user.email == email
    changed = service.auth.admin.update_user_by_id(
        made.id, {"app_metadata": {"b": None, "c": 3}, "password": "other horse"}
    )
    assert changed.user.app_metadata == {"provider": "email", "providers": ["email"], "c": 3}
    env.client().auth.sign_in_with_password({"email": email, "password": "other horse"})

    service.auth.admin.update_user_by_id(made.id, {"ban_duration": "1h30m"})
    with pytest.raises(AuthApiError) as banned:
        env.client().auth.sign_in_with_password({"email": email, "password": "other horse"})
    assert banned.value.code == "user_banned"
    service.auth.admin.update_user_by_id(made.id, {"ban_duration": "none"})
    env.client().auth.sign_in_with_password({"email": email, "password": "other horse"})

    service.auth.admin.delete_user(made.id)
    with pytest.raises(AuthApiError) as gone:
        service.auth.admin.get_user_by_id(made.id)
    assert (gone.value.status, gone.value.code) == (404, "user_not_found")


def test_unconfirmed_users_cannot_sign_in(env: Env, service: Client) -> None:
    email = fresh_email()
    service.auth.admin.create_user({"email": email, "password": "correct horse"})
    with pytest.raises(AuthApiError) as caught:
        env.client().auth.sign_in_with_password({"email": email, "password": "correct horse"})
    assert caught.value.code == "email_not_confirmed"


def test_soft_delete_keeps_nothing_personal(
    service: Client, user: MakeUser, db: "psycopg.Connection[Any]"
) -> None:
    made = user(full_name="Ada")
    service.auth.admin.delete_user(made.id, should_soft_delete=True)
    row = db.execute(
        "select email, raw_user_meta_data, deleted_at from auth.users where id = %s", [made.id]
    ).fetchone()
    assert row
    assert "@" not in row[0]
    assert row[1] == {}
    assert row[2] <= datetime.now(UTC)


def test_users_are_listed_in_pages(env: Env, user: MakeUser, service: Client) -> None:
    made = [user().id for _ in range(3)]
    first = service.auth.admin.list_users(page=1, per_page=2)
    second = service.auth.admin.list_users(page=2, per_page=2)
    assert [shown.id for shown in first + second][:3] == made[::-1]
    answer = call(env, "GET", "/admin/users?page=1&per_page=2", env.service_role_key)
    assert int(answer.headers["x-total-count"]) >= 3
    assert 'rel="next"' in answer.headers["link"]
    for query in ("page=x", "page=0", "per_page=-1", "page=99999999999999999999"):
        assert call(env, "GET", f"/admin/users?{query}", env.service_role_key).status_code == 400


def test_admin_is_for_the_service_role_only(env: Env, user: MakeUser) -> None:
    made = user()
    for token in (None, made.token, env.anon_key):
        for method, path in (
            ("GET", "/admin/users"),
            ("POST", "/admin/users"),
            ("DELETE", f"/admin/users/{made.id}"),
        ):
            assert call(env, method, path, token).status_code in (401, 403)
    assert call(env, "GET", "/admin/users/not-a-uuid", env.service_role_key).status_code == 404


def test_a_failing_trigger_fails_the_sign_up_and_leaves_no_user(
    env: Env, admin_db: "psycopg.Connection[Any]"
) -> None:
    email = fresh_email()
    admin_db.execute(
        """
        create function public.refuse_user() returns trigger language plpgsql as $$
        begin raise exception 'not you'; end $$;
        """
    )
    admin_db.execute(
        f"create trigger refuse after insert on auth.users for each row when (new.email = '{email}')"
        " execute function public.refuse_user()"
    )
    try:
        answer = call(env, "POST", "/signup", json={"email": email, "password": "correct horse"})
        assert (answer.status_code, answer.json()["msg"]) == (500, "Database error saving new user")
        assert "not you" not in answer.text
        assert admin_db.execute("select from auth.users where email = %s", [email]).fetchone() is None
    finally:
        admin_db.execute("drop trigger refuse on auth.users")
        admin_db.execute("drop function public.refuse_user()")
