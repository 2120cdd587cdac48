"""Answers of the database for states that take long to bring about."""

import datetime
from typing import Any

CREDITS: dict[str, Any] = {
    "account_id": "7d1f3a52-5d5c-4f0e-9d5e-0f4a52c1d9b1",
    "balance": 240,
    "available": 230,
    "held": 10,
    "lifetime_granted": 250,
    "lifetime_spent": 10,
    "lifetime_refunded": 0,
    "lifetime_expired": 0,
    "lifetime_clawed_back": 0,
    "frozen_at": None,
    "updated_at": "2026-11-24T12:00:00Z",
    "status": "ok",
    "expires_next": 50,
    "expires_next_at": "2026-12-03T12:00:00Z",
}
NOTHING_EXPIRES = {"expires_next": None, "expires_next_at": None}
STATES: dict[str, dict[str, Any]] = {
    "full": {},
    "low": {"available": 3, "balance": 13, "status": "low"},
    "zero": {"available": 0, "balance": 0, "held": 0, "status": "empty", **NOTHING_EXPIRES},
    "negative": {"available": 0, "balance": -120, "held": 0, "status": "debt", **NOTHING_EXPIRES},
    "frozen": {"frozen_at": "2026-11-24T12:00:00Z", "status": "frozen"},
    "huge": {"available": 10**15, "balance": 10**15 + 10},
}

KINDS = ("spend", "spend", "grant", "capture", "refund", "expiry", "clawback")


def entry(number: int, **more: Any) -> dict[str, Any]:
    """A row of credit_history."""
    kind = KINDS[number % len(KINDS)]
    amount = {"spend": -10, "grant": 200, "capture": -50, "refund": 10, "expiry": -20, "clawback": -30}[kind]
    moment = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC) - datetime.timedelta(
        hours=5 * (60 - number)
    )
    return {
        "id": number,
        "created_at": moment.isoformat(),
        "kind": kind,
        "amount": amount,
        "balance_after": 1000 + number,
        "operation": "dalle3_image" if kind in ("spend", "capture", "refund") else None,
        "provider": None,
        "model": None,
        "quantity": 2 if kind == "spend" else None,
        "unit_price": 10,
        "price_version": 1,
        "related_id": None,
        "hold_id": None,
        "source": "purchase" if kind == "grant" else None,
        "cause": None,
        "metadata": {},
        **more,
    }


def history(count: int, following: int | None = None) -> dict[str, Any]:
    """A page of the history, the newest first."""
    rows = [entry(number) for number in range(count, 0, -1)]
    return {"rows": rows, "next": following, "zone": "Europe/Berlin", "as_of": "2026-11-24T12:00:00Z"}


def lot(number: int, **more: Any) -> dict[str, Any]:
    """A lot of credit_lots."""
    return {
        "id": number,
        "source": "purchase",
        "state": "active",
        "position": number,
        "amount": 200,
        "remaining": 120,
        "used": 80,
        "expired": 0,
        "expires_at": None,
        "granted_at": "2026-11-01T12:00:00Z",
        "promotional": False,
        "priority": 50,
        "transaction_id": number,
        **more,
    }


def lots() -> dict[str, Any]:
    """Lots of all states."""
    return {
        "balance": 240,
        "available": 230,
        "held": 10,
        "debt": 0,
        "zone": "Europe/Berlin",
        "as_of": "2026-11-24T12:00:00Z",
        "open": [
            lot(3, source="bonus", amount=50, remaining=50, expires_at="2026-12-03T12:00:00Z"),
            lot(4, source="subscription", amount=500, remaining=70, expires_at="2026-12-20T12:00:00Z"),
            lot(5),
        ],
        "open_count": 3,
        "ended": [
            lot(2, source="promo", state="expired", remaining=0, expires_at="2026-10-01T12:00:00Z"),
            lot(1, state="used", remaining=0),
        ],
        "next": None,
    }


def usage(days: int = 30, groups: int = 6) -> dict[str, Any]:
    """The answer of credit_usage."""
    names = [
        "dalle3_image",
        "video_generation",
        "image_edit",
        "stable_diffusion",
        "meme_generation",
        "cartoon_style",
    ]
    end = datetime.date(2026, 11, 25)
    starts = [(end - datetime.timedelta(days=days - day)).isoformat() for day in range(days)]
    made = []
    for group in range(groups):
        spent = [(day * (group + 3) * 7) % 50 // (group + 1) * (day % 7 != 2) for day in range(days)]
        made.append({"group": names[group], "totals": {"spent": sum(spent)}, "series": {"spent": spent}})
    total = [sum(group["series"]["spent"][day] for group in made) for day in range(days)]  # type: ignore[index]
    return {
        "from": starts[0],
        "to": end.isoformat(),
        "grain": "day",
        "by": "operation",
        "filter": {},
        "zone": "Europe/Berlin",
        "as_of": "2026-11-24T12:00:00Z",
        "starts": starts,
        "totals": {"spent": sum(total)},
        "series": {"spent": total},
        "groups": made,
        "before": {"from": "", "to": "", "totals": {"spent": sum(total) * 8 // 10}, "groups": []},
    }


PLANS = [
    {
        "slug": "monthly",
        "name": "Monthly",
        "credits": 500,
        "unit_amount": 999,
        "currency": "usd",
        "interval": "month",
        "interval_count": 1,
        "trial_days": 7,
    },
]
PACKAGES = [
    {
        "slug": slug,
        "name": name,
        "credits": count,
        "unit_amount": amount,
        "currency": currency,
        "is_popular": popular,
    }
    for slug, name, count, amount, currency, popular in (
        ("starter", "Starter", 50, 499, "usd", False),
        ("popular", "Popular", 200, 1799, "usd", True),
        ("pro", "Pro", 500, 3999, "usd", False),
        ("enterprise", "Enterprise", 2000, 13999, "usd", False),
        ("starter", "Starter", 50, 750, "jpy", False),
        ("starter", "Starter", 50, 1525, "kwd", False),
    )
]
