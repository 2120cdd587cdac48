"""A time zone is changed while its account is spent from and settled: every day stays the sum of its rows."""

from functools import partial
from typing import Any

import pytest

from tests.support.ledger import Ledger
from tests.support.sessions import Bank, codes

ZONES = [
    "Asia/Tokyo", "America/New_York", "Pacific/Apia", "Asia/Kolkata",
    "Europe/Berlin", "Africa/Cairo", "Asia/Kathmandu",
]  # fmt: skip


def several(session: Ledger, user: str, function: str, **arguments: Any) -> list[Any]:
    return [session.as_user(user, function, **arguments) for _ in range(5)]


@pytest.mark.parametrize("queued", [False, True])
def test_zones_are_changed_while_the_account_is_spent_from_and_settled(bank: Bank, queued: bool) -> None:
    user = bank.user(1000)
    sessions = bank.sessions(len(ZONES) + 4)
    maintenance = [bank.owner_session() for _ in range(2)]
    calls = [
        *(
            partial(session.as_user, user, "set_time_zone", zone=zone)
            for session, zone in zip(sessions, ZONES, strict=False)
        ),
        *(
            partial(several, session, user, "consume_credits", operation="stable_diffusion")
            for session in sessions[len(ZONES) :]
        ),
    ]
    if not queued:  # maintenance does not queue
        calls += [partial(session.value, "select credits.run_maintenance()") for session in maintenance]
    answers = bank.all_at_once(calls, queued_behind=user if queued else None)
    changed = [answer for answer in answers if isinstance(answer, dict) and answer.get("changed")]
    assert 4 <= len(changed) <= 5 and set(codes(answers)) <= {"PT429"}
    usage = bank.owner.as_user(user, "credit_usage")
    assert usage["totals"]["transactions"] == 20 and usage["totals"]["spent"] == 60
    assert usage["zone"] in {answer["zone"] for answer in changed} | {"UTC"}
    bank.check()
    assert bank.owner.as_user(user, "credit_usage")["series"] == usage["series"]
