"""The function generate over HTTP: a process that serves it, and users who call it."""

from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from scripts.local.providers.png import png
from tests.support.clock import until
from tests.support.served import Served
from tests.support.stack import Env, User

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


PNG = png(64, 48, "input")


@dataclass
class GenerateUser:
    """A signed-in user of the function, and what the database says of them."""

    user: User
    env: Env
    db: "psycopg.Connection[Any]"
    account: str
    jobs: list[str] = field(default_factory=list)

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {**self.user.headers(self.env), **({"Idempotency-Key": key} if key else {})}

    def post(self, served: Served, prompt: str, key: str | None = None, **body: Any) -> httpx.Response:
        """POST; operation is gen_image unless it is said."""
        content = {"operation": "gen_image", "prompt": prompt, **body}
        return HTTP.post(served.url, json=content, headers=self.headers(key))

    def get(self, served: Served, job: str) -> httpx.Response:
        return HTTP.get(f"{served.url}/{job}", headers=self.headers())

    def delete(self, served: Served, job: str) -> httpx.Response:
        return HTTP.delete(f"{served.url}/{job}", headers=self.headers())

    def upload(self, name: str, data: bytes = PNG, mime_type: str = "image/png") -> str:
        """Put an input into Storage; its path."""
        path = f"{self.account}/inputs/{name}"
        self.user.client.storage.from_("generations").upload(path, data, {"content-type": mime_type})
        return path

    def row(self, job: str) -> dict[str, Any]:
        """The job, as it stands in the database."""
        cursor = self.db.execute("select to_jsonb(j) from public.generation_jobs as j where id = %s", [job])
        found = cursor.fetchone()
        assert found
        row: dict[str, Any] = found[0]
        return row

    def all_jobs(self) -> list[dict[str, Any]]:
        cursor = self.db.execute(
            "select to_jsonb(j) from public.generation_jobs as j where account_id = %s", [self.account]
        )
        return [row[0] for row in cursor.fetchall()]

    def figures(self) -> tuple[int, int]:
        """(balance, held)."""
        cursor = self.db.execute(
            "select balance, held from public.credit_accounts where id = %s", [self.account]
        )
        row = cursor.fetchone()
        assert row
        return int(row[0]), int(row[1])

    def usage(self) -> list[str]:
        """The statuses of the provider calls on record, oldest first."""
        cursor = self.db.execute(
            "select status from credits.usage_logs where account_id = %s order by id", [self.account]
        )
        return [row[0] for row in cursor.fetchall()]

    def expect(self, charged: int, held: int = 0, granted: int = 1000) -> None:
        """The ledger is exact: so much was charged, so much is held, and no rule is broken."""
        assert self.figures() == (granted - charged, held)
        broken = self.db.execute("select * from public.verify_ledger(%s)", [self.user.id]).fetchall()
        assert broken == []
        holds = self.db.execute(
            "select coalesce(sum(amount), 0) from public.credit_holds "
            "where account_id = %s and status = 'held'", [self.account],
        ).fetchone()  # fmt: skip
        assert holds == (held,)

    def sweep(self) -> None:
        """Let the time of all unfinished jobs be over, and maintenance run."""
        self.db.execute(
            "update public.generation_jobs set deadline_at = now() - interval '1 second' "
            "where account_id = %s and finished_at is null", [self.account],
        )  # fmt: skip
        until(lambda: not self._sweep_once())

    def _sweep_once(self) -> bool:
        self.db.execute("select credits.run_maintenance()")
        return any(job["finished_at"] is None for job in self.all_jobs())


def started(ann: GenerateUser, served: Served, prompt: str, **body: object) -> str:
    answer = ann.post(served, prompt, key="k", **{"operation": "gen_video", **body})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["status"] == "running"
    assert body["poll"] == f"/functions/v1/generate/{body['job']}"
    assert "retry-after" in answer.headers
    return str(body["job"])


def ended(ann: GenerateUser, job: str) -> str:
    return str(until(lambda: ann.row(job)["finished_at"] and ann.row(job)["status"]))


def assert_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["charged"] == 0
    assert body["message"].endswith(".")
    return body
