"""Who calls a function: a signed-in user, or the project's own server.

Every place that checks a token is listed in sql/README.md, "Where tokens are checked".
"""

import hmac
from dataclasses import dataclass

import jwt
from starlette.requests import Request

from . import settings
from .errors import FunctionError

ROLE = "authenticated"


@dataclass(frozen=True)
class User:
    """A signed-in user, by a verified token. `email` is None for who has none, such as an anonymous user."""

    id: str
    email: str | None
    token: str


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def verified_user(request: Request) -> User:
    """The user whose access token came with the request: signature, exp, aud and role are right.

    Raises FunctionError 401 otherwise.
    """
    token = _bearer(request)
    if not token:
        raise FunctionError(401, "Sign in: the user's access token must come as `Authorization: Bearer …`.")
    refusal = FunctionError(401, "The access token is not valid for a user of this project; sign in again.")
    for key in settings.verifying_keys():
        try:
            # The key decides on the algorithm, so that a public key is never taken for a shared secret.
            verified = jwt.decode_complete(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=ROLE,
                options={"require": ["exp", "aud", "sub", "role"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
        claims = verified["payload"]
        if claims["role"] == ROLE and key.key_id in (None, verified["header"].get("kid")):
            email = claims.get("email")
            return User(claims["sub"], email if isinstance(email, str) and email else None, token)
    raise refusal


def require_service(request: Request) -> None:
    """Let only the project's own server through: a secret key, or the legacy service_role key.

    Raises FunctionError 401 otherwise.
    """
    given = [value.encode() for value in (request.headers.get("apikey", ""), _bearer(request))]
    # All are compared, so that the time it takes tells nothing.
    matches = [hmac.compare_digest(key.encode(), value) for key in settings.service_keys() for value in given]
    if not any(matches):
        raise FunctionError(401, "This needs the project's secret key; send it in the header `apikey`.")
