"""verified_user() and require_service() by themselves.

Behind them the database refuses as well, which would hide what they let through.
"""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms
from starlette.requests import Request

from _shared import settings, tokens
from _shared.errors import FunctionError

SECRET = "a secret of this project, long enough"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
USER = str(uuid.uuid4())


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE.public_key()))
    keys = {"keys": [{**public, "kid": "one", "alg": "ES256", "use": "sig"}]}
    monkeypatch.setenv("SUPABASE_JWKS", json.dumps(keys))
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("SUPABASE_SECRET_KEYS", '{"default": "sb_secret_one", "other": "sb_secret_two"}')
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "legacy")
    monkeypatch.delenv("SUPABASE_SECRET_KEY", raising=False)


def request(**headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token, with changes; ... takes one out."""
    good = {"sub": USER, "aud": "authenticated", "role": "authenticated", "exp": int(time.time()) + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hs256(**changes: Any) -> str:
    return jwt.encode(claims(**changes), SECRET, algorithm="HS256")


def es256(**changes: Any) -> str:
    return jwt.encode(claims(**changes), PRIVATE, algorithm="ES256", headers={"kid": "one"})


def is_let_in(token: str) -> bool:
    try:
        return tokens.verified_user(request(authorization=f"Bearer {token}")).id == USER
    except FunctionError as error:
        assert error.status == 401
        return False


@pytest.mark.parametrize("sign", [hs256, es256])
def test_the_claims(sign: Callable[..., str]) -> None:
    assert is_let_in(sign())
    assert is_let_in(sign(aud=["other", "authenticated"]))
    now = int(time.time())
    for changes in (
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": ...},
        {"aud": None},
        {"role": "anon"},
        {"role": "service_role"},
        {"role": ...},
        {"sub": ...},
        {"exp": now - 5},
        {"exp": ...},
        {"nbf": now + 100},
    ):
        assert not is_let_in(sign(**changes)), changes


@pytest.mark.parametrize("algorithm", [*get_default_algorithms(), "none", "hs256", "", None, ["HS256"]])
def test_the_key_decides_on_the_algorithm(algorithm: Any) -> None:
    """A signature that the key did make is not taken under the name of another algorithm."""
    for own, kid, sign in (
        ("HS256", None, lambda text: hmac.digest(SECRET.encode(), text, "sha256")),
        ("ES256", "one", lambda text: jwt.get_algorithm_by_name("ES256").sign(text, PRIVATE)),
    ):
        head = encode({"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {}))
        text = f"{head}.{encode(claims())}"
        signature = base64.urlsafe_b64encode(sign(text.encode())).rstrip(b"=").decode()  # type: ignore[no-untyped-call]
        assert is_let_in(f"{text}.{signature}") == (algorithm == own), own
        assert not is_let_in(f"{text}.")


def test_a_key_is_asked_for_its_own_algorithm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyJWT refuses another one itself since it has keys that know theirs; that is not to be relied on."""
    asked = []

    def decode(token: str, key: jwt.PyJWK, **options: Any) -> Any:
        asked.append((key.algorithm_name, options["algorithms"]))
        raise jwt.InvalidTokenError

    monkeypatch.setattr(jwt, "decode_complete", decode)
    assert not is_let_in(hs256())
    assert asked == [("ES256", ["ES256"]), ("HS256", ["HS256"])]


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_every_algorithm_with_a_shared_secret() -> None:
    for algorithm in ("HS384", "HS512"):
        assert not is_let_in(jwt.encode(claims(), SECRET * 2, algorithm=algorithm))
        assert not is_let_in(jwt.encode(claims(), (SECRET * 2)[: len(SECRET)], algorithm=algorithm))


@pytest.mark.parametrize("header", ["apikey", "authorization"])
@pytest.mark.parametrize("key", ["sb_secret_one", "sb_secret_two", "legacy"])
def test_the_secret_keys(header: str, key: str) -> None:
    scheme = "Bearer " if header == "authorization" else ""
    tokens.require_service(request(**{header: scheme + key}))
    for wrong in (key[:-1], key + "x", key.upper(), "", "ключ"):
        with pytest.raises(FunctionError) as refused:
            tokens.require_service(request(**{header: scheme + wrong}))
        assert refused.value.status == 401


def test_the_time_that_a_comparison_takes_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared with what came, and compare_digest() alone decides."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(FunctionError):
        tokens.require_service(request(apikey="sb_secret_one", authorization="Bearer legacy"))
    assert sorted(compared) == sorted(
        (key.encode(), given) for key in settings.service_keys() for given in (b"sb_secret_one", b"legacy")
    )
