"""A signed URL opens one object until it expires, and nothing else."""

import time
from collections.abc import Callable

import httpx
import jwt

from tests.support.stack import Env
from tests.support.uploads import PNG, Owner, get_signed, signed_url_token


def test_it_opens_this_object_for_whoever_has_it(env: Env, owner: Callable[[], Owner]) -> None:
    me = owner()
    url = me.files.create_signed_url(me.input, 60, {"download": "cat.png"})["signedUrl"] or ""
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("attachment; filename=cat.png")
    assert "expires" in answer.headers
    assert httpx.get(url, headers={"Range": "bytes=0-3"}).content == PNG[:4]
    claims = jwt.decode(httpx.URL(url).params["token"], env.jwt_secret, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 60
    assert "role" not in claims
    me.files.remove([me.input])
    assert (httpx.get(url).status_code, httpx.get(url).json()["error"]) == (400, "not_found")


def test_another_path_another_secret_another_time(env: Env, owner: Callable[[], Owner]) -> None:
    me, other = owner(), owner()
    path = f"generations/{me.input}"
    good = signed_url_token(env, path)
    assert get_signed(env, path, good).content == PNG
    head, body, signature = good.split(".")
    other_body = signed_url_token(env, f"generations/{other.input}").split(".")[1]
    for wrong, error in (
        (signed_url_token(env, path, -10), "InvalidJWT"),
        (signed_url_token(env, path, secret="x" * 40), "InvalidJWT"),
        (f"{head}.{other_body}.{signature}", "InvalidJWT"),
        (f"{head}.{body}.{signature[:-4]}AAAA", "InvalidJWT"),
        (jwt.encode({"url": path, "exp": time.time() + 60}, "", algorithm="none"), "InvalidJWT"),
        (jwt.encode({"url": path}, env.jwt_secret, algorithm="HS256"), "InvalidJWT"),  # never expires
        ("", "InvalidJWT"),
        ("x.y.z", "InvalidJWT"),
        (signed_url_token(env, f"generations/{other.input}"), "InvalidSignature"),
        (signed_url_token(env, f"{path}/"), "InvalidSignature"),
        (me.user.token, "InvalidJWT"),  # ES256
        (env.anon_key, "InvalidSignature"),
        (env.service_role_key, "InvalidSignature"),
    ):
        answer = get_signed(env, path, wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, error), wrong
        assert PNG not in answer.content
    assert (
        get_signed(env, path.replace("cat.png", "cat.pn%67"), good).content == PNG
    )  # the same path, escaped
    assert get_signed(env, f"generations/x/../{me.input}", good).status_code in (200, 400)
    assert get_signed(env, f"generations/{other.input}", good).json()["error"] == "InvalidSignature"


def test_it_is_no_access_token(env: Env, owner: Callable[[], Owner]) -> None:
    me = owner()
    token = signed_url_token(env, f"generations/{me.input}")
    headers = {"apikey": env.publishable_key, "Authorization": f"Bearer {token}"}
    url = f"{env.api_url}/storage/v1/object/generations/{me.input}"
    assert httpx.get(url, headers=headers).status_code == 400
    assert httpx.delete(url, headers=headers).status_code == 400
    assert me.files.download(me.input) == PNG


def test_how_long_must_make_sense(env: Env, owner: Callable[[], Owner]) -> None:
    me = owner()
    for seconds in (0, -1, "x", 1.5, True, None, 2**60):
        answer = httpx.post(
            f"{env.api_url}/storage/v1/object/sign/generations/{me.input}",
            json={"expiresIn": seconds}, headers=me.user.headers(env),
        )  # fmt: skip
        assert (answer.status_code, answer.json()["statusCode"]) == (400, "400"), seconds
        assert "expiresIn" in answer.json()["message"]
