"""Access tokens: made with ES256 as a project with signing keys does, accepted with ES256 or HS256, in which
the legacy API keys are.
"""

import time
from dataclasses import dataclass
from typing import Any

import jwt
from starlette.requests import Request

from ..keys import Keys
from .errors import AuthError

LIFETIME = 3600  # seconds
ADMIN_ROLES = ("service_role", "supabase_admin")

Claims = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """Signs and checks the tokens of one stack. `issuer` is the URL of /auth/v1."""

    keys: Keys
    issuer: str

    def sign(self, user: dict[str, Any], session_id: str, method: str) -> tuple[str, int]:
        """An access token for a session, and when it ends (Unix seconds). `user` is a row of auth.users."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": str(user["id"]),
            "aud": user["aud"],
            "exp": now + LIFETIME,
            "iat": now,
            "email": user["email"] or "",
            "phone": user["phone"] or "",
            "app_metadata": user["raw_app_meta_data"] or {},
            "user_metadata": user["raw_user_meta_data"] or {},
            "role": user["role"],
            "aal": "aal1",
            "amr": [{"method": method, "timestamp": now}],
            "session_id": session_id,
            "is_anonymous": user["is_anonymous"],
        }
        headers = {"kid": self.keys.es256_kid}
        token = jwt.encode(claims, self.keys.es256_private_pem, algorithm="ES256", headers=headers)
        return token, claims["exp"]

    def claims(self, request: Request) -> Claims:
        """The claims of the request's bearer token. Raises AuthError when it is absent or not valid."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
        try:
            return self.verified(token)
        except jwt.PyJWTError as error:
            message = f"invalid JWT: unable to parse or verify signature, {error}"
            raise AuthError(403, "bad_jwt", message) from error

    def verified(self, token: str) -> Claims:
        """The claims of a token. Raises jwt.PyJWTError when it is not valid."""
        # Each key goes with its algorithm, so that a public key is never taken for a shared secret.
        try:
            return self._decode(token, self.keys.public_key, "ES256")
        except jwt.InvalidAlgorithmError:
            return self._decode(token, self.keys.jwt_secret, "HS256")

    @staticmethod
    def _decode(token: str, key: str | jwt.PyJWK, algorithm: str) -> Claims:
        options: Any = {"verify_aud": False, "require": ["exp"]}
        return jwt.decode(token, key, algorithms=[algorithm], options=options)

    def require_admin(self, request: Request) -> None:
        """Let only the service role through."""
        if self.claims(request).get("role") not in ADMIN_ROLES:
            raise AuthError(403, "not_admin", "User not allowed")
