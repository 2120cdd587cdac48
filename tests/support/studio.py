"""The life of a generation job, step by step, in calls to the ledger's database."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from tests.support.ledger import Ledger

REQUEST = hashlib.sha256(b"a cat").hexdigest()


@dataclass(frozen=True)
class Studio:
    """A ledger, and the steps of a job as the function generate takes them."""

    ledger: Ledger

    def buyer(self, balance: int = 100) -> str:
        """A new user with credits."""
        user = self.ledger.sign_up()
        self.ledger.as_service("grant_credits", user_id=user, amount=balance, source="purchase")
        return user

    def operation(self, price: int = 10, cost: str | None = None, **metadata: Any) -> str:
        """A new operation on sale, with a provider of its own."""
        name = f"op_{uuid.uuid4().hex}"
        self.ledger.rows(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit, terms) "
            "values (%s, %s, 'm', %s, jsonb_strip_nulls(jsonb_build_object("
            "'deadline_seconds', %s::int, 'charge_refusals', %s::boolean)))",
            name, name, price, metadata.get("deadline_seconds"), metadata.get("charge_refusals"),
        )  # fmt: skip
        if cost is not None:
            self.ledger.rows(
                "insert into credits.provider_costs (provider, model, cost_per_output) values (%s, 'm', %s)",
                name,
                cost,
            )
        return name

    def sold(self, price: str = "10", unit: str = "image", **terms: Any) -> str:
        """A new operation on sale with these terms."""
        name = f"op_{uuid.uuid4().hex}"
        self.ledger.rows(
            "insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit, terms) "
            "values (%s, %s, 'm', %s, %s, %s)", name, name, unit, price, json.dumps(terms),
        )  # fmt: skip
        return name

    def begin(
        self, user: str, operation: str, quantity: int = 1, key: str | None = None, request: str = REQUEST,
        **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """begin_generation: the job, or the refusal."""
        arguments: dict[str, Any] = {
            "operation": operation, "quantity": quantity, "request": request, **more,
        }  # fmt: skip
        if key is not None:
            arguments["idempotency_key"] = key
        job: dict[str, Any] = self.ledger.as_user(user, "begin_generation", **arguments)
        return job

    def service(self, function: str, job: str, **arguments: Any) -> Any:
        """One of the functions that only generate may call."""
        account = self.ledger.value("select account_id::text from public.generation_jobs where id = %s", job)
        return self.ledger.as_service(function, account_id=account, job_id=job, **arguments)

    def dispatched(self, user: str, operation: str, quantity: int = 1) -> str:
        """A job whose provider is being asked."""
        job: str = self.begin(user, operation, quantity)["id"]
        assert self.service("dispatch_generation", job)["status"] == "dispatched"
        return job

    def finish(self, job: str, outcome: str, outputs: int = 0, **arguments: Any) -> dict[str, Any]:
        """finish_generation with so many outputs."""
        rows = [{"path": f"x/{number}.png", "mime_type": "image/png"} for number in range(outputs)]
        done: dict[str, Any] = self.service(
            "finish_generation", job, outcome=outcome, outputs=rows, **arguments
        )
        return done

    def usage(self, job: str) -> list[dict[str, Any]]:
        """What was logged of the job's provider call."""
        return self.ledger.rows(
            "select u.status, u.units, u.provider_cost, u.transaction_id from credits.usage_logs u "
            "join public.generation_jobs j on j.account_id = u.account_id and j.hold_id = u.hold_id "
            "where j.id = %s",
            job,
        )
