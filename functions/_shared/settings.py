"""The environment, read in one place. A variable that is missing is a 500 that names it, never its value."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache

import httpx
import jwt

from .errors import FunctionError
from .redirects import origin


def _optional(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _required(name: str, *others: str) -> str:
    for known in (name, *others):
        value = _optional(known)
        if value:
            return value
    raise FunctionError(500, f"The environment variable {name} is not set; set it where the function runs.")


def _malformed(name: str, shape: str) -> FunctionError:
    return FunctionError(
        500, f"The environment variable {name} is not {shape}; correct it where the function runs."
    )


def _named_keys(name: str) -> dict[str, str]:
    """Supabase's form for API keys: a JSON object of keys by name."""
    value = _optional(name)
    return _parsed_named_keys(name, value) if value else {}


@lru_cache(maxsize=8)
def _parsed_named_keys(name: str, value: str) -> dict[str, str]:
    try:
        keys = json.loads(value)
    except ValueError:
        keys = None
    if not isinstance(keys, dict) or not all(isinstance(key, str) and key for key in keys.values()):
        raise _malformed(name, 'a JSON object of keys by name, such as {"default": "…"}')
    return keys


def _api_key(names: str, name: str, legacy: str) -> str:
    keys = _named_keys(names)
    if keys:
        return keys.get("default") or next(iter(keys.values()))
    value = _optional(name) or _optional(legacy)
    return value or _required(names)


def supabase_url() -> str:
    """The project's URL, without a slash at the end."""
    return _checked_url("SUPABASE_URL", _required("SUPABASE_URL").rstrip("/"))


@lru_cache(maxsize=4)
def _checked_url(name: str, url: str) -> str:
    try:
        origin(url)
    except ValueError:
        raise _malformed(name, "an http or https URL such as https://<ref>.supabase.co") from None
    return url


def publishable_key() -> str:
    """The key that users' calls go with."""
    return _api_key("SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY")


def secret_key() -> str:
    """The key that acts as service_role."""
    return _api_key("SUPABASE_SECRET_KEYS", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")


def service_keys() -> list[str]:
    """Every key that proves a caller to be the project's own server."""
    single = (_optional("SUPABASE_SECRET_KEY"), _optional("SUPABASE_SERVICE_ROLE_KEY"))
    keys = [*_named_keys("SUPABASE_SECRET_KEYS").values(), *filter(None, single)]
    return keys or [_required("SUPABASE_SECRET_KEYS")]


def verifying_keys() -> list[jwt.PyJWK]:
    """The keys that sign users' tokens: SUPABASE_JWKS, and JWT_SECRET where HS256 is still in use."""
    jwks, secret = _optional("SUPABASE_JWKS"), _optional("JWT_SECRET")
    return _parsed_keys(jwks if jwks or secret else _required("SUPABASE_JWKS"), secret)


@lru_cache(maxsize=4)
def _parsed_keys(jwks: str | None, secret: str | None) -> list[jwt.PyJWK]:
    keys: list[jwt.PyJWK] = []
    if jwks:
        try:
            listed = json.loads(jwks)
            listed = listed["keys"] if isinstance(listed, dict) else listed
            keys = [jwt.PyJWK(key) for key in listed if key.get("use", "sig") == "sig"]
        except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
            raise _malformed("SUPABASE_JWKS", "a JSON Web Key Set") from error
    if secret:
        octets = jwt.utils.base64url_encode(secret.encode()).decode()
        keys.append(jwt.PyJWK({"kty": "oct", "k": octets, "alg": "HS256"}))
    return keys


def stripe_secret_key() -> str:
    """The key that the functions call Stripe with: sk_… or a restricted rk_…."""
    return _required("STRIPE_SECRET_KEY")


def stripe_api_base() -> str | None:
    """Where Stripe is when it is not at api.stripe.com: a stand-in, for development and tests."""
    return _optional("STRIPE_API_BASE")


def webhook_secrets() -> list[str]:
    """The endpoint's signing secret, and the one before it while a rotation is under way."""
    previous = _optional("STRIPE_WEBHOOK_SECRET_PREVIOUS")
    return [_required("STRIPE_WEBHOOK_SECRET"), *([previous] if previous else [])]


def redirect_origins() -> frozenset[str]:
    """The origins that Stripe may send people back to, in the form that redirects.origin() gives."""
    return _parsed_origins(_required("ALLOWED_REDIRECT_ORIGINS"))


@lru_cache(maxsize=4)
def _parsed_origins(value: str) -> frozenset[str]:
    try:
        return frozenset(origin(item.strip()) for item in value.split(",") if item.strip())
    except ValueError as error:
        raise _malformed(
            "ALLOWED_REDIRECT_ORIGINS", "a list of origins such as https://app.example.com"
        ) from error


@dataclass(frozen=True)
class Endpoint:
    """Where a provider is, without a slash at the end, and the key it knows us by."""

    base_url: str
    key: str

    @property
    def is_stand_in(self) -> bool:
        """Whether it is a server on this machine, which someone set on purpose."""
        return httpx.URL(self.base_url).scheme == "http"


def provider(env: str, base_url: str) -> Endpoint:
    """<env>_API_KEY, and <env>_BASE_URL where it is not the usual one: https, or http on loopback."""
    name = f"{env}_BASE_URL"
    base = _checked_base(name, (_optional(name) or base_url).rstrip("/"))
    return Endpoint(base, _required(f"{env}_API_KEY"))


@lru_cache(maxsize=16)
def _checked_base(name: str, base: str) -> str:
    try:
        url = httpx.URL(base)
        fits = bool(url.host) and (
            url.scheme == "https" or (url.scheme == "http" and url.host in ("127.0.0.1", "::1", "localhost"))
        )
    except httpx.InvalidURL:
        fits = False
    if not fits:
        raise _malformed(name, "an https URL, or an http one of this machine")
    return base


def _seconds(name: str, default: float, most: float) -> float:
    value = _optional(name)
    try:
        seconds = float(value) if value is not None else default
    except ValueError:
        seconds = -1
    if not 0 < seconds <= most:
        raise _malformed(name, f"a number of seconds over 0 and at most {most:.0f}")
    return seconds


def poll_seconds() -> float:
    """GENERATION_POLL_SECONDS: how often a provider is asked about a task; default 5."""
    return _seconds("GENERATION_POLL_SECONDS", 5, 60)


def wait_seconds() -> float:
    """GENERATION_WAIT_SECONDS: how long an answer waits for its job before it says 202; default 150."""
    return _seconds("GENERATION_WAIT_SECONDS", 150, 3600)


def grace_seconds() -> float:
    """GENERATION_GRACE_SECONDS: how long a process that is told to end goes on with its jobs; default 120."""
    return _seconds("GENERATION_GRACE_SECONDS", 120, 3600)


def signed_url_seconds() -> int:
    """GENERATION_URL_SECONDS: how long the URL of an output is good; default an hour."""
    return int(_seconds("GENERATION_URL_SECONDS", 3600, 7 * 86400))


def lease_seconds() -> int:
    """GENERATION_LEASE_SECONDS: how long a task is a process's without a sign of life; default 45."""
    return max(1, int(_seconds("GENERATION_LEASE_SECONDS", 45, 300)))


def sweep_seconds() -> float:
    """GENERATION_SWEEP_SECONDS: how often a process asks for files that are to be deleted; default 600."""
    return _seconds("GENERATION_SWEEP_SECONDS", 600, 86400)
