"""Tokens of channels: which are good, and what is said of the others."""

import time

import jwt

from ..auth.tokens import Claims, Tokens


class TokenError(Exception):
    """Why a token is refused, as the real server says it: a code and a sentence."""


def read(tokens: Tokens, token: str) -> Claims:
    """The claims of a token of this stack that has not expired. Raises TokenError."""
    try:
        claims = tokens.verified(token)
    except jwt.ExpiredSignatureError as error:
        ended = jwt.decode(token, options={"verify_signature": False})["exp"]
        message = f"InvalidJWTToken: Token has expired {int(time.time() - float(ended))} seconds ago"
        raise TokenError(message) from error
    except jwt.MissingRequiredClaimError as error:
        raise TokenError("InvalidJWTToken: Fields `role` and `exp` are required in JWT") from error
    except jwt.InvalidSignatureError as error:
        raise TokenError("JwtSignatureError: Failed to validate JWT signature") from error
    except (jwt.PyJWTError, UnicodeError) as error:
        raise TokenError("MalformedJWT: The token provided is not a valid JWT") from error
    if not isinstance(claims.get("role"), str):
        raise TokenError("InvalidJWTToken: Fields `role` and `exp` are required in JWT")
    return claims
