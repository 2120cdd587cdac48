"""People with files, and a bucket to play with."""

import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from storage3._sync.file_api import SyncBucketProxy
from storage3.exceptions import StorageApiError

from scripts.local.stack import Stack
from supabase import Client
from tests.conftest import Env, User

PNG = b"\x89PNG\r\n\x1a\n" + b"not a picture, but Storage does not look"
AS_PNG: Any = {"content-type": "image/png"}


@dataclass(frozen=True)
class Owner:
    """A signed-in user, their account, and the bucket `generations` as they see it."""

    user: User
    account: str
    files: SyncBucketProxy

    @property
    def input(self) -> str:
        """Where an input image of theirs lies."""
        return f"{self.account}/inputs/cat.png"


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


@dataclass(frozen=True)
class Job:
    """A generation job of somebody's, with its output stored."""

    id: str
    output: str
    service: Client

    def charge(self) -> None:
        """Let it end as delivered."""
        outputs = [{"path": self.output, "mime_type": "image/png"}]
        wanted = {"job_id": self.id, "outcome": "succeeded", "outputs": outputs}
        finished: Any = self.service.rpc("finish_generation", wanted).execute().data
        assert finished["credits_charged"] == 3


@pytest.fixture
def job(service: Client) -> Callable[[Owner], Job]:
    """A factory of jobs that are stored and not charged yet."""

    def make(owner: Owner) -> Job:
        wanted = {"operation": "stable_diffusion", "quantity": 1, "request": "0" * 64}
        begun: Any = owner.user.client.rpc("begin_generation", wanted).execute().data
        service.rpc("dispatch_generation", {"job_id": begun["id"]}).execute()
        made = Job(begun["id"], f"{owner.account}/{begun['id']}/0.png", service)
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


def files(stack: Stack) -> set[str]:
    """What lies in the folder of the bytes."""
    root = stack.gateway_settings().storage_folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def refused(act: Callable[..., object], *arguments: Any) -> tuple[str, str]:
    """(status, error) of the StorageApiError that the call must end in."""
    with pytest.raises(StorageApiError) as caught:
        act(*arguments)
    return str(caught.value.status), str(caught.value.code)


@dataclass(frozen=True)
class Raw:
    """Requests whose path goes out exactly as it is given, which client libraries would tidy."""

    env: Env

    def __call__(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """(HTTP status, JSON body) of a request below /storage/v1, by default with the secret key."""
        address = urlsplit(self.env.api_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method, f"/storage/v1{path}", body, {"apikey": key or self.env.secret_key, **named}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()


@pytest.fixture
def raw(env: Env) -> Raw:
    return Raw(env)
