"""Realtime when the parts beneath it come and go."""

import os
import signal

from tests.local.realtime.client import Raw, change, raw
from tests.support.clock import until
from tests.support.projects import Checkout
from tests.support.stack import Env


def heard_of(client: Raw, running: Checkout, number: int) -> bool:
    """Whether a row that is written now arrives."""
    with running.connect() as db:
        db.execute("insert into public.seen values (%s)", [number])
    return bool(client.hear_change()["data"]["record"]["id"] == number)


def test_it_goes_on_after_postgres_was_away(running: Checkout) -> None:
    with running.connect() as db:
        db.execute(
            "create table public.seen (id int primary key); grant select on public.seen to anon;"
            "alter publication supabase_realtime add table public.seen"
        )
    gateway = running.pid("gateway")
    with raw(Env.of(running.stack)) as client, raw(Env.of(running.stack)) as talker:
        client.watch("a", None, change("seen"))
        talker.join("b", broadcast={"ack": True})
        assert heard_of(client, running, 1)
        for number, kind in ((2, signal.SIGINT), (3, signal.SIGKILL)):
            os.kill(running.pid("postgres"), kind)
            until(lambda: running.stack.pid("postgres") is None)
            # Broadcasts need no database.
            sent = {"event": "e", "payload": {}}
            assert talker.ask("realtime:b", "broadcast", sent)["status"] == "ok"
            # Who joins meanwhile hears when it goes on.
            assert client.join(f"late{number}", None, change("seen", filter="id=eq.0"))["status"] == "ok"
            running.start()
            topics = {f"realtime:{name}" for name in ("a", f"late{number}")}
            while topics:
                said = client.until("system")
                if said.payload["status"] == "ok":
                    topics.discard(said.topic)
            assert heard_of(client, running, number)
    assert running.pid("gateway") == gateway
    with running.connect() as db:
        # The old slots are gone with their walsenders.
        found = db.execute("select count(*) from pg_replication_slots").fetchone()
    assert found == (1,)
