"""Codes and links by e-mail, and anonymous users, through the official clients, over HTTP where needed."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import psycopg
import pytest

from scripts.local.stack import ports
from scripts.local.stack.auth.config import Config, read
from supabase import AuthApiError, Client
from tests.support.node import run_node
from tests.support.projects import Checkout, make_checkout
from tests.support.stack import Env, User

Db = psycopg.Connection[Any]
MakeUser = Callable[..., User]
SITE = "https://app.example.com"
CONFIG = f"""
[auth]
site_url = "{SITE}"
additional_redirect_urls = ["https://*.example.org/**"]
enable_anonymous_sign_ins = true
[auth.email]
enable_confirmations = true
max_frequency = "1m"
otp_length = 8
[auth.rate_limit]
anonymous_users = 5
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A stack where addresses have to be confirmed and anonymous users are let in."""
    root = tmp_path_factory.mktemp("strict") / "checkout"
    make_checkout(root)
    (root / "supabase").mkdir()
    (root / "supabase" / "config.toml").write_text(CONFIG)
    made = Checkout(root, ports.free_pair())
    made.start()
    yield Env.of(made.stack)
    made.stack.stop(delete=True)


def address() -> str:
    return f"new-{uuid.uuid4().hex}@example.com"


def mails(env: Env, to: str) -> list[dict[str, Any]]:
    """What was sent to an address, the newest first."""
    answer = httpx.get(f"{env.api_url}/mail.json", params={"to": to}, timeout=20)
    found: list[dict[str, Any]] = answer.json()
    return found


def code_for(env: Env, to: str, kind: str) -> str:
    newest = mails(env, to)[0]
    assert newest["kind"] == kind
    return str(newest["code"])


def call(env: Env, path: str, **body: Any) -> httpx.Response:
    headers = {"apikey": env.publishable_key}
    return httpx.post(f"{env.api_url}/auth/v1{path}", headers=headers, json=body, timeout=20)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def follow(link: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Where a link leads, with its query and what is behind #."""
    answer = httpx.get(link, follow_redirects=False, timeout=20)
    assert answer.status_code == 303, answer.text
    to = urlsplit(answer.headers["location"])
    query, fragment = (
        {key: values[0] for key, values in parse_qs(part, keep_blank_values=True).items()}
        for part in (to.query, to.fragment)
    )
    return f"{to.scheme}://{to.netloc}{to.path}", query, fragment


def method(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return str(claims["amr"][0]["method"])


def test_a_code_signs_up_and_in_once(env: Env, db: Db) -> None:
    client, email = env.client(), address()
    client.auth.sign_in_with_otp({"email": email.upper(), "options": {"data": {"name": "Ann"}}})
    code = code_for(env, email, "magiclink")
    assert len(code) == 6 and code.isdigit()
    kept = db.execute("select code from auth.local_mails where recipient = %s", [email]).fetchall()
    assert kept == [(code,)]
    answer = client.auth.verify_otp({"email": email.upper(), "token": code, "type": "email"})
    assert answer.session and answer.user and answer.user.email == email
    assert method(answer.session.access_token) == "otp"
    assert answer.user.user_metadata["name"] == "Ann"
    # Its owner has an account of credits, as everybody who signs up.
    row = client.table("user_credits").select("available").single().execute().data
    assert isinstance(row, dict) and row["available"] == 10
    with pytest.raises(AuthApiError) as caught:
        client.auth.verify_otp({"email": email, "token": code, "type": "email"})
    assert (caught.value.status, caught.value.code) == (403, "otp_expired")
    assert caught.value.message == "Token has expired or is invalid"


def test_a_code_that_comes_five_times_at_once_lets_one_in(env: Env) -> None:
    email = address()
    call(env, "/otp", email=email)
    code = code_for(env, email, "magiclink")
    with ThreadPoolExecutor(5) as pool:
        answers = list(
            pool.map(lambda _: call(env, "/verify", type="email", email=email, token=code), range(5))
        )
    assert sorted(answer.status_code for answer in answers) == [200, *[403] * 4]


def test_a_code_is_for_its_address_its_kind_and_its_time(env: Env, user: MakeUser, db: Db) -> None:
    made, other = user(), user()
    made.client.auth.sign_in_with_otp({"email": made.email})
    other.client.auth.sign_in_with_otp({"email": other.email})
    code = code_for(env, made.email, "magiclink")
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for body in (
        {"type": "email", "email": other.email, "token": code},
        {"type": "email", "email": made.email, "token": wrong},
        {"type": "signup", "email": made.email, "token": code},
        {"type": "email_change", "email": made.email, "token": code}, {"type": "email", "token_hash": code},
    ):  # fmt: skip
        assert refusal(call(env, "/verify", **body)) == (403, "otp_expired")
    # A newer one takes its place.
    db.execute(
        "update auth.users set recovery_sent_at = now() - interval '2 seconds' where id = %s", [made.id]
    )
    made.client.auth.sign_in_with_otp({"email": made.email})
    assert refusal(call(env, "/verify", type="email", email=made.email, token=code)) == (403, "otp_expired")
    newer = code_for(env, made.email, "magiclink")
    db.execute(
        "update auth.users set recovery_sent_at = now() - interval '3601 seconds' where id = %s", [made.id]
    )
    assert refusal(call(env, "/verify", type="email", email=made.email, token=newer)) == (403, "otp_expired")
    db.execute(
        "update auth.users set recovery_sent_at = now(), banned_until = '2100-01-01' where id = %s", [made.id]
    )
    assert refusal(call(env, "/verify", type="email", email=made.email, token=newer)) == (403, "user_banned")
    db.execute("update auth.users set banned_until = null where id = %s", [made.id])
    assert call(env, "/verify", type="email", email=made.email, token=newer).status_code == 200


@pytest.mark.parametrize("path", ["/otp", "/recover"])
def test_messages_have_to_wait_for_each_other(env: Env, user: MakeUser, path: str) -> None:
    made = user()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: call(env, path, email=made.email), range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429, 429]
    late = next(answer for answer in answers if answer.status_code == 429)
    assert late.json()["error_code"] == "over_email_send_rate_limit"
    assert late.json()["msg"] == "For security purposes, you can only request this after 1 seconds."
    assert len(mails(env, made.email)) == 1


def test_what_is_wrong_with_a_request_is_said(env: Env) -> None:
    for path, body, refused in (
        ("/otp", {}, (400, "validation_failed")),
        ("/otp", {"phone": "+4912345"}, (400, "phone_provider_disabled")),
        ("/otp", {"email": "nobody"}, (400, "validation_failed")),
        ("/otp", {"email": address(), "create_user": False}, (422, "otp_disabled")),
        ("/otp", {"email": address(), "code_challenge": "x" * 43}, (400, "validation_failed")),
        ("/otp", {"email": address(), "code_challenge": "x", "code_challenge_method": "s256"},
         (400, "validation_failed")),
        ("/recover", {}, (400, "validation_failed")),
        ("/resend", {"email": "a@b.de"}, (400, "validation_failed")),
        ("/resend", {"type": "signup"}, (400, "validation_failed")),
        ("/verify", {}, (400, "validation_failed")),
        ("/verify", {"type": "email", "email": "a@b.de"}, (400, "validation_failed")),
        ("/verify", {"type": "email", "token": "1", "token_hash": "2"}, (400, "validation_failed")),
        ("/verify", {"type": "email", "email": "a@b.de", "token_hash": "2"}, (400, "validation_failed")),
        ("/verify", {"type": "sms", "phone": "+4912345", "token": "1"}, (400, "validation_failed")),
        ("/verify", {"type": "email", "token": "1"}, (400, "validation_failed")),
        ("/invite", {"email": address()}, (403, "not_admin")),
        ("/admin/generate_link", {"email": address(), "type": "magiclink"}, (403, "not_admin")),
    ):  # fmt: skip
        assert refusal(call(env, path, **body)) == refused, (path, body)
    # Whether somebody has an address is not told.
    for path, body in (
        ("/recover", {}),
        ("/resend", {"type": "signup"}),
        ("/resend", {"type": "email_change"}),
    ):
        answer = call(env, path, email="nobody@example.com", **body)
        assert (answer.status_code, answer.json()) == (200, {})


def test_a_link_signs_in_once(env: Env, user: MakeUser) -> None:
    made = user()
    assert call(env, "/otp?redirect_to=http://127.0.0.1:3000/in", email=made.email).status_code == 200
    link = mails(env, made.email)[0]["link"]
    # What only looks at it does not use it up.
    assert httpx.head(link, timeout=20).status_code == 405
    to, _, said = follow(link)
    assert to == "http://127.0.0.1:3000/in"
    assert (said["type"], said["token_type"]) == ("magiclink", "bearer")
    answer = env.client().auth.set_session(said["access_token"], said["refresh_token"])
    assert answer.user and answer.user.id == made.id
    to, _, said = follow(link)
    assert said == {
        "error": "access_denied", "error_code": "otp_expired", "sb": "",
        "error_description": "Email link is invalid or has expired",
    }  # fmt: skip


def test_a_link_of_supabase_py_ends_in_a_code_for_the_app(env: Env, user: MakeUser) -> None:
    """It asks for PKCE by itself."""
    made, client = user(), env.client()
    client.auth.sign_in_with_otp({"email": made.email, "options": {"email_redirect_to": "http://localhost/"}})
    _, query, said = follow(mails(env, made.email)[0]["link"])
    assert said == {}
    exchange: Any = {"auth_code": query["code"]}
    answer = client.auth.exchange_code_for_session(exchange)
    assert answer.user and answer.user.id == made.id


def test_links_lead_to_the_app_and_nowhere_else(strict: Env) -> None:
    for wanted, target in (
        (f"{SITE}/x?y=1", f"{SITE}/x"),
        ("https://a.example.org/b/c", "https://a.example.org/b/c"),
        ("http://127.0.0.1:5173/x", "http://127.0.0.1:5173/x"),
        ("https://evil.example.net/", SITE), ("https://a.b.example.org/", SITE),
        ("https://example.org/", SITE),
        ("https://app.example.com@evil.example.net/", SITE),
        ("https://evil.example.net\\@app.example.com/", SITE),
        (f"{SITE}.evil.example.net/", SITE), ("javascript:alert(1)//app.example.com", SITE),
        ("http://app.example.com/", SITE), (f"{SITE}:444/", SITE), ("https://1234567890/", SITE),
        ("//evil.example.net", SITE), ("https://a.example.org\n.evil.example.net/", SITE),
        ("http://192.168.1.1/", SITE), ("file://127.0.0.1/etc/passwd", SITE),
    ):  # fmt: skip
        answer = httpx.get(
            f"{strict.api_url}/auth/v1/verify", timeout=20,
            params={"type": "magiclink", "token": "0" * 56, "redirect_to": wanted},
        )  # fmt: skip
        assert answer.headers["location"].partition("#")[0].partition("?")[0] == target, wanted


def test_recovery_sets_a_new_password(env: Env, user: MakeUser) -> None:
    made = user()
    client = env.client()
    client.auth.reset_password_for_email(made.email)
    client.auth.verify_otp(
        {"email": made.email, "token": code_for(env, made.email, "recovery"), "type": "recovery"}
    )
    client.auth.update_user({"password": "a new horse"})
    signed = env.client().auth.sign_in_with_password({"email": made.email, "password": "a new horse"})
    assert signed.user and signed.user.id == made.id


def test_a_new_address_counts_when_its_code_comes_back(env: Env, user: MakeUser) -> None:
    made, email = user(), address()
    made.client.auth.update_user({"email": email})
    # As hosted the one so far hears of it, too.
    assert [mail["kind"] for mail in mails(env, made.email)] == ["email_change"]
    code = code_for(env, email, "email_change")
    answer = made.client.auth.verify_otp({"email": email, "token": code, "type": "email_change"})
    assert answer.user and (answer.user.id, answer.user.email) == (made.id, email)
    assert [each.identity_data["email"] for each in answer.user.identities or []] == [email]
    assert env.client().auth.sign_in_with_password({"email": email, "password": made.password}).user


def test_an_address_that_was_taken_meanwhile(env: Env, user: MakeUser) -> None:
    made, email = user(), address()
    made.client.auth.update_user({"email": email})
    code = code_for(env, email, "email_change")
    env.client().auth.sign_up({"email": email, "password": "correct horse"})
    assert refusal(call(env, "/verify", type="email_change", email=email, token=code)) == (
        422,
        "email_exists",
    )
    shown = made.client.auth.get_user()
    assert shown and shown.user.email == made.email


def test_links_of_the_admin(env: Env, service: Client, user: MakeUser) -> None:
    made, email = user(), address()
    for asked, kind in (
        ({"type": "magiclink", "email": made.email}, "magiclink"),
        ({"type": "recovery", "email": made.email}, "recovery"),
        ({"type": "signup", "email": email, "password": "correct horse"}, "signup"),
        ({"type": "invite", "email": address()}, "invite"),
    ):  # fmt: skip
        answer = service.auth.admin.generate_link(asked)  # type: ignore[arg-type]
        made_link = answer.properties
        assert made_link.verification_type == kind and made_link.hashed_token in made_link.action_link
        assert mails(env, str(asked["email"])) == []  # not sent
        proof: Any = {"token_hash": made_link.hashed_token, "type": kind}
        verified = env.client().auth.verify_otp(proof)
        assert verified.session and verified.user and verified.user.email == asked["email"]
        assert verified.user.email_confirmed_at
    with pytest.raises(AuthApiError) as caught:
        service.auth.admin.generate_link({"type": "signup", "email": made.email, "password": "correct horse"})
    assert (caught.value.status, caught.value.code) == (422, "email_exists")

    guest = address()
    invited = service.auth.admin.invite_user_by_email(
        guest, {"data": {"team": 1}, "redirect_to": "http://localhost"}
    )
    assert invited.user.invited_at and not invited.user.email_confirmed_at
    answered = env.client().auth.verify_otp(
        {"email": guest, "token": code_for(env, guest, "invite"), "type": "invite"}
    )
    assert answered.user and answered.user.id == invited.user.id


def test_addresses_that_have_to_be_confirmed(strict: Env) -> None:
    client, email = strict.client(), address()
    signed = client.auth.sign_up({"email": email, "password": "correct horse"})
    assert signed.session is None and signed.user and signed.user.confirmation_sent_at
    with pytest.raises(AuthApiError) as caught:
        client.auth.sign_in_with_password({"email": email, "password": "correct horse"})
    assert caught.value.code == "email_not_confirmed"
    with pytest.raises(AuthApiError) as caught:
        client.auth.resend({"type": "signup", "email": email})
    assert (caught.value.status, caught.value.code) == (429, "over_email_send_rate_limit")
    code = code_for(strict, email, "signup")
    assert len(code) == 8
    answer = client.auth.verify_otp({"email": email, "token": code, "type": "signup"})
    assert answer.session and answer.user and answer.user.id == signed.user.id
    assert answer.user.user_metadata["email_verified"] is True
    # Who signs up with somebody's address learns nothing, and changes nothing.
    again = strict.client().auth.sign_up({"email": email, "password": "another horse"})
    assert again.session is None and again.user and again.user.id != signed.user.id
    assert again.user.identities == []
    assert len(mails(strict, email)) == 1
    assert client.auth.sign_in_with_password({"email": email, "password": "correct horse"}).session

    # A change of address needs both.
    new = address()
    client.auth.update_user({"email": new})
    first = call(
        strict, "/verify", type="email_change", email=email, token=code_for(strict, email, "email_change")
    )
    assert (first.status_code, first.json()["code"]) == (200, "200") and "access_token" not in first.json()
    shown = client.auth.get_user()
    assert shown and shown.user.email == email
    done = client.auth.verify_otp(
        {"email": new, "token": code_for(strict, new, "email_change"), "type": "email_change"}
    )
    assert done.user and done.user.email == new


def test_anonymous_users(strict: Env, env: Env) -> None:
    with pytest.raises(AuthApiError) as caught:
        env.client().auth.sign_in_anonymously()
    assert caught.value.code == "anonymous_provider_disabled"
    client = strict.client()
    signed = client.auth.sign_in_anonymously({"options": {"data": {"theme": "dark"}}})
    assert signed.user and signed.session and signed.user.is_anonymous and not signed.user.email
    claims = jwt.decode(signed.session.access_token, options={"verify_signature": False})
    assert (claims["is_anonymous"], claims["role"], claims["amr"][0]["method"]) == (
        True,
        "authenticated",
        "anonymous",
    )
    with pytest.raises(AuthApiError) as caught:
        client.auth.update_user({"password": "correct horse"})
    assert (caught.value.status, caught.value.code) == (422, "validation_failed")
    email = address()
    asked = client.auth.update_user({"email": email}).user
    assert asked.is_anonymous and asked.new_email == email
    done = client.auth.verify_otp(
        {"email": email, "token": code_for(strict, email, "email_change"), "type": "email_change"}
    )
    assert done.user and done.user.id == signed.user.id and done.user.email == email
    assert done.user.is_anonymous is False and done.user.app_metadata["provider"] == "email"
    client.auth.update_user({"password": "correct horse"})
    assert strict.client().auth.sign_in_with_password({"email": email, "password": "correct horse"}).session


def test_supabase_js(strict: Env) -> None:
    email, new = address(), address()
    admin = strict.client(strict.secret_key)
    admin.auth.admin.create_user({"email": email, "email_confirm": True})
    settings = {
        "API_URL": strict.api_url, "PUBLISHABLE_KEY": strict.publishable_key,
        "EMAIL": email, "NEW_EMAIL": new, "SITE": SITE,
    }  # fmt: skip
    seen = run_node(Path(__file__).with_name("sign_in.mjs"), settings)
    assert seen == {
        "status": 303, "path": f"{SITE}/after", "kept": "1", "signedIn": email, "again": True,
        "anonymous": True, "asked": new, "same": True, "permanent": True,
    }  # fmt: skip


def test_a_stolen_code_of_a_link_is_no_use_without_the_verifier(strict: Env) -> None:
    email = address()
    strict.client(strict.secret_key).auth.admin.create_user({"email": email, "email_confirm": True})
    call(strict, "/otp", email=email, code_challenge="c" * 43, code_challenge_method="plain")
    _, query, _ = follow(mails(strict, email)[0]["link"])
    exchange = "/token?grant_type=pkce"
    wrong = call(strict, exchange, auth_code=query["code"], code_verifier="d" * 43)
    assert refusal(wrong) == (400, "bad_code_verifier")
    assert call(strict, exchange, auth_code=query["code"], code_verifier="c" * 43).status_code == 200
    assert refusal(call(strict, exchange, auth_code=query["code"], code_verifier="c" * 43)) == (
        404, "flow_state_not_found",
    )  # fmt: skip


def test_guessing_and_anonymous_sign_ins_have_a_limit(strict: Env) -> None:
    """Last in this file: afterwards nobody can verify there for five minutes."""
    answers = [call(strict, "/verify", type="email", email="a@b.de", token=f"{n:08}") for n in range(31)]
    assert refusal(answers[0]) == (403, "otp_expired")
    assert refusal(answers[-1]) == (429, "over_request_rate_limit")
    signed = [call(strict, "/signup") for _ in range(6)]
    assert refusal(signed[-1]) == (429, "over_request_rate_limit")


def test_the_page_of_messages(env: Env, user: MakeUser) -> None:
    made = user()
    made.client.auth.sign_in_with_otp({"email": made.email})
    page = httpx.get(f"{env.api_url}/mail", timeout=20)
    assert made.email in page.text and code_for(env, made.email, "magiclink") in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    # No other origin may read it, nor one that calls itself by another name.
    assert "access-control-allow-origin" not in page.headers
    assert (
        httpx.get(f"{env.api_url}/mail", headers={"host": "evil.example.net"}, timeout=20).status_code == 403
    )
    odd = "&lt;b&gt;"
    assert odd not in page.text  # an address cannot hold markup: it is refused
    assert refusal(call(env, "/otp", email="<b>x</b>@example.com")) == (400, "validation_failed")


def test_config(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    assert read(file) == Config()
    file.write_text(
        "[auth]\nenable_signup = false\nenable_anonymous_sign_ins = true\n[auth.email]\notp_expiry = 60\n"
    )
    found = read(file)
    assert (found.signup, found.anonymous, found.otp_seconds) == (False, False, 60)
    for text, named in (("otp_length = 4", "otp_length"), ('max_frequency = "soon"', "max_frequency")):
        file.write_text(f"[auth.email]\n{text}\n")
        with pytest.raises(ValueError, match=named):
            read(file)
