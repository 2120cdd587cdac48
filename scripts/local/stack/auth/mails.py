"""The messages that Auth would send: kept in a table, and shown on a page."""

import html
from typing import Any
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, JSONResponse, Response

from .store import Connection, Row

NEWEST = 100  # that the page shows
SUBJECTS = {
    "signup": "Confirm your sign-up",
    "invite": "You have been invited",
    "magiclink": "Your sign-in link",
    "recovery": "Reset your password",
    "email_change": "Confirm your new e-mail address",
}
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
}


def action_link(base: str, kind: str, token: str, redirect_to: str) -> str:
    """The link of a message. `base` is where Auth is."""
    return f"{base}/verify?{urlencode({'token': token, 'type': kind, 'redirect_to': redirect_to})}"


async def send(connection: Connection, recipient: str, kind: str, code: str, link: str) -> None:
    """Keep a message; it is there once the transaction commits."""
    await connection.execute(
        "insert into auth.local_mails (recipient, kind, subject, code, link) values (%s, %s, %s, %s, %s)",
        (recipient, kind, SUBJECTS[kind], code, link),
    )


async def newest(connection: Connection, recipient: str | None) -> list[Row]:
    """The newest messages, of all or to one."""
    rows = await connection.execute(
        "select * from auth.local_mails where %s::text is null or recipient = %s order by id desc limit %s",
        (recipient, recipient, NEWEST),
    )
    return await rows.fetchall()


def as_json(rows: list[Row]) -> Response:
    """For programs."""
    shown: list[dict[str, Any]] = [{**row, "sent_at": row["sent_at"].isoformat()} for row in rows]
    return JSONResponse(shown, headers=HEADERS)


def as_page(rows: list[Row]) -> Response:
    """For people."""
    entries = "".join(
        f"<article><h2>{html.escape(row['subject'])}</h2><p>To {html.escape(row['recipient'])}, "
        f"<time>{row['sent_at']:%Y-%m-%d %H:%M:%S} UTC</time></p>"
        f"<p>Code: <code>{html.escape(row['code'])}</code></p>"
        f'<p><a href="{html.escape(row["link"])}">Follow the link</a></p></article>'
        for row in rows
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Local mail</title>'
        "<style>body{font:1rem system-ui;margin:2rem auto;max-width:40rem;padding:0 1rem}"
        "article{border-top:1px solid;padding:.5rem 0}code{font-size:1.5rem}</style>"
        "<h1>Local mail</h1><p>What Auth would have sent, the newest first. Nothing leaves this machine.</p>"
        f"{entries or '<p>There is none yet.</p>'}</html>"
    )
    return HTMLResponse(page, headers=HEADERS)
