"""Where the signature of a webhook of Stripe's is checked."""

import time

import stripe

TOLERANCE = 300  # seconds


def is_signed(payload: str, header: str, secrets: list[str]) -> bool:
    """Whether one of the secrets signed the payload within TOLERANCE of now, past or future."""
    if not header.isascii():
        return False  # the library's comparison takes ASCII only
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(payload, header, secret, TOLERANCE)
        except stripe.SignatureVerificationError:
            continue
        # The library lets a time in the future pass. It has read the same first `t`.
        stamp = next(item[2:] for item in header.split(",") if item.startswith("t="))
        return int(stamp) <= time.time() + TOLERANCE
    return False
