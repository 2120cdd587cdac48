"""The secrets of one stack: made once, kept in its state folder with mode 0600."""

import base64
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

TEN_YEARS = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class Keys:
    """API keys, signing keys and database passwords of one stack."""

    jwt_secret: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    es256_private_pem: str
    es256_kid: str
    admin_password: str
    authenticator_password: str
    auth_password: str
    storage_password: str
    realtime_password: str
    # Of the local Stripe, in Stripe's forms.
    stripe_secret_key: str
    stripe_webhook_secret: str
    # What the local AI providers' keys are made from.
    providers_secret: str
    # The one password that is no secret: the Supabase CLI's local stack has the same.
    postgres_password: str = "postgres"  # noqa: S105

    def public_jwks(self) -> dict[str, Any]:
        """What /auth/v1/.well-known/jwks.json serves: the ES256 key, never the shared secret."""
        private = serialization.load_pem_private_key(self.es256_private_pem.encode(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        return {
            "keys": [{**public, "alg": "ES256", "use": "sig", "kid": self.es256_kid, "key_ops": ["verify"]}]
        }

    @cached_property
    def public_key(self) -> jwt.PyJWK:
        """The ES256 key that checks users' tokens."""
        return jwt.PyJWK(self.public_jwks()["keys"][0])

    def verifying_jwks(self) -> str:
        """A JWK set for PostgREST and the functions: the key of users' tokens, and the shared secret, with
        which the legacy API keys are signed.
        """
        octets = base64.urlsafe_b64encode(self.jwt_secret.encode()).rstrip(b"=").decode()
        shared = {"kty": "oct", "k": octets, "alg": "HS256"}
        return json.dumps({"keys": [shared, *self.public_jwks()["keys"]]})


def generate() -> Keys:
    """Fresh random keys."""
    jwt_secret = secrets.token_urlsafe(40)
    now = int(time.time())

    def api_key(role: str) -> str:
        claims = {"iss": "supabase-demo", "role": role, "iat": now, "exp": now + TEN_YEARS}
        return jwt.encode(claims, jwt_secret, algorithm="HS256")

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Keys(
        jwt_secret=jwt_secret,
        anon_key=api_key("anon"),
        service_role_key=api_key("service_role"),
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
        es256_private_pem=pem.decode(),
        es256_kid=secrets.token_hex(8),
        admin_password=secrets.token_hex(16),
        authenticator_password=secrets.token_hex(16),
        auth_password=secrets.token_hex(16),
        storage_password=secrets.token_hex(16),
        realtime_password=secrets.token_hex(16),
        stripe_secret_key=f"sk_test_{secrets.token_hex(24)}",
        stripe_webhook_secret=f"whsec_{secrets.token_hex(24)}",
        providers_secret=secrets.token_hex(24),
    )


def load_or_create(path: Path) -> Keys:
    """Read the keys, or make and store them. A file of an older version gets what it lacks."""
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        kept = {}
    if all(field.name in kept for field in fields(Keys)):
        return Keys(**kept)
    keys = Keys(**{**asdict(generate()), **kept})
    write_private(path, json.dumps(asdict(keys), indent=2))
    return keys


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, complete or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
