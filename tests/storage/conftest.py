"""People with files, and a bucket to play with."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from storage3._sync.file_api import SyncBucketProxy

from supabase import Client
from tests.support.stack import Env, User
from tests.support.uploads import AS_PNG, PNG, Job, Owner, RawStorage


@pytest.fixture
def owner(user: Callable[..., User], db: "psycopg.Connection[Any]") -> Callable[[], Owner]:
    """A factory of users who have uploaded an input image."""

    def make() -> Owner:
        made = user()
        row = db.execute("select id from public.credit_accounts where user_id = %s", [made.id]).fetchone()
        assert row
        files = made.client.storage.from_("generations")
        owner = Owner(made, str(row[0]), files)
        files.upload(owner.input, PNG, AS_PNG)
        return owner

    return make


@pytest.fixture
def job(service: Client) -> Callable[[Owner], Job]:
    """A factory of jobs that are stored and not charged yet."""

    def make(owner: Owner) -> Job:
        wanted = {"operation": "stable_diffusion", "quantity": 1, "request": "0" * 64}
        begun: Any = owner.user.client.rpc("begin_generation", wanted).execute().data
        key = {"account_id": owner.account, "job_id": begun["id"]}
        service.rpc("dispatch_generation", key).execute()
        made = Job(begun["id"], owner.account, f"{owner.account}/{begun['id']}/0.png", service)
        service.storage.from_("generations").upload(made.output, PNG, AS_PNG)
        return made

    return make


@pytest.fixture
def bucket(service: Client) -> Iterator[SyncBucketProxy]:
    """A private bucket of the service role; no policy lets anybody else in."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    service.storage.create_bucket(name)
    yield service.storage.from_(name)
    service.storage.empty_bucket(name)
    service.storage.delete_bucket(name)


@pytest.fixture
def raw(env: Env) -> RawStorage:
    return RawStorage(env)
