"""<credits-balance>: every state, in a browser."""

from typing import Any

from tests.dashboard.conftest import App

CREDITS: dict[str, Any] = {
    "account_id": "7d1f3a52-5d5c-4f0e-9d5e-0f4a52c1d9b1", "balance": 240, "available": 230, "held": 10,
    "lifetime_granted": 250, "lifetime_spent": 10, "lifetime_refunded": 0, "lifetime_expired": 0,
    "lifetime_clawed_back": 0, "frozen_at": None, "updated_at": "2026-11-24T12:00:00Z", "status": "ok",
    "expires_next": 50, "expires_next_at": "2026-12-03T12:00:00Z",
}  # fmt: skip
STATES: dict[str, dict[str, Any] | None] = {
    "full": {},
    "low": {"available": 3, "balance": 13, "status": "low"},
    "zero": {
        "available": 0,
        "balance": 0,
        "held": 0,
        "status": "empty",
        "expires_next": None,
        "expires_next_at": None,
    },
    "negative": {"available": 0, "balance": -120, "held": 0, "status": "debt", "expires_next": None},
    "frozen": {"frozen_at": "2026-11-24T12:00:00Z", "status": "frozen"},
    "huge": {"available": 10**15, "balance": 10**15 + 10},
}


def show(made: App, state: str, **options: Any) -> None:
    """The element in one of the states."""
    made.table("user_credits", [CREDITS | (STATES.get(state) or {})])
    made.table(
        "credit_accounts", [{"frozen_by": "operator", "frozen_reason": "Chargebacks <b>are</b> looked at."}]
    )
    made.open("<credits-balance></credits-balance>", **options)
