"""Where the stack under test is, its users, and databases beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stripe

from scripts.local.stack import Stack
from scripts.local.stripe.control import Control
from scripts.local.stripe.world import API_VERSION
from supabase import Client, ClientOptions, create_client

ROOT = Path(__file__).resolve().parents[2]


NEEDED = ("API_URL", "DB_URL", "ANON_KEY", "SERVICE_ROLE_KEY", "JWT_SECRET")


@dataclass(frozen=True)
class Env:
    """Where the stack under test is. `postgrest_url` and `admin_db_url` are None when it is not ours."""

    api_url: str
    db_url: str
    functions_url: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    # Of the local Stripe; empty when the stack is not ours and the environment does not name one.
    stripe_api_base: str = ""
    stripe_secret_key: str = ""
    stripe_webhook_secret: str = ""
    postgrest_url: str | None = None
    admin_db_url: str | None = None

    @classmethod
    def of(cls, stack: Stack) -> "Env":
        """Of a running embedded stack."""
        status = stack.status()
        return cls(
            api_url=status.api_url,
            db_url=status.db_url,
            functions_url=status.functions_url,
            anon_key=status.anon_key,
            service_role_key=status.service_role_key,
            publishable_key=status.publishable_key,
            secret_key=status.secret_key,
            jwt_secret=status.jwt_secret,
            stripe_api_base=status.stripe_api_base,
            stripe_secret_key=status.stripe_secret_key,
            stripe_webhook_secret=status.stripe_webhook_secret,
            postgrest_url=status.postgrest_url,
            admin_db_url=status.admin_db_url,
        )

    def client(self, key: str | None = None) -> Client:
        """A supabase-py client, by default with the publishable key. It refreshes nothing by itself."""
        options = ClientOptions(auto_refresh_token=False, persist_session=False)
        return create_client(self.api_url, key or self.publishable_key, options)

    def stripe(self, key: str | None = None) -> stripe.StripeClient:
        """A stripe-python client of the local Stripe, by default with the right key. Skips without one."""
        if not self.stripe_api_base:
            pytest.skip("needs the local Stripe")
        return stripe.StripeClient(
            key or self.stripe_secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": self.stripe_api_base},
        )

    def stripe_control(self) -> Control:
        """The controls of the local Stripe. Skips without one."""
        if not self.stripe_api_base:
            pytest.skip("needs the local Stripe")
        return Control(self.stripe_api_base)


@dataclass(frozen=True)
class User:
    """A signed-in user: a supabase-py client that acts as them, and what a plain HTTP client needs."""

    client: Client
    id: str
    email: str
    password: str
    token: str

    def headers(self, env: Env) -> dict[str, str]:
        """Headers for a request as this user."""
        return {"apikey": env.publishable_key, "Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Database:
    """A database of its own, with its URL for `postgres` and for the superuser."""

    name: str
    url: str
    admin_url: str

    def connect(self, admin: bool = False) -> "psycopg.Connection[Any]":
        """An autocommit connection as `postgres`, or as the superuser."""
        return psycopg.connect(self.admin_url if admin else self.url, autocommit=True)
