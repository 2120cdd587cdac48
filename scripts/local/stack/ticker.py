"""What pg_cron does on a hosted project: run the ledger's maintenance, every second."""

import asyncio
import logging
from typing import Any

import psycopg

log = logging.getLogger("ticker")

SECONDS = 1.0
# By name, not by signature: the procedure may have more arguments, with defaults.
EXISTS = """
    select exists (
        select from pg_proc
        where proname = 'maintain' and pronamespace = to_regnamespace('credits')
    ), to_regnamespace('cron') is not null
"""
RUN = "call credits.maintain(settle_after => interval '30 seconds')"


async def tick_forever(db_url: str) -> None:
    """Call credits.maintain() until cancelled.

    Errors are logged and the next tick tries again. Does nothing while the procedure is not there, or
    when pg_cron is in the database and does the same.
    """
    said = ""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                db_url, autocommit=True, connect_timeout=5
            ) as connection:
                while True:
                    await tick(connection)
                    if said:
                        log.info("Maintenance goes on.")
                        said = ""
                    await asyncio.sleep(SECONDS)
        except Exception as error:
            # Say it once, not every second: the database may be away for long.
            if str(error) != said:
                said = str(error)
                log.error("Maintenance failed: %s", said.strip())
            await asyncio.sleep(SECONDS)


async def tick(connection: "psycopg.AsyncConnection[Any]") -> None:
    """One round: repeat while the procedure says that its time was not enough."""
    found = await (await connection.execute(EXISTS)).fetchone()
    if not found or not found[0] or found[1]:
        return
    more = True
    while more:
        row = await (await connection.execute(RUN)).fetchone()
        more = bool(row and row[0])
