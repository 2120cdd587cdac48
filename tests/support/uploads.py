"""Users with files in Storage, jobs with outputs there, and requests to it."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from storage3._sync.file_api import SyncBucketProxy
from storage3.exceptions import StorageApiError

from scripts.local.stack import Stack
from supabase import Client
from tests.support.stack import Env, User

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


@dataclass(frozen=True)
class Job:
    """A generation job of somebody's, with its output stored."""

    id: str
    account: str
    output: str
    service: Client

    def charge(self) -> None:
        """Let it end as delivered."""
        outputs = [{"path": self.output, "mime_type": "image/png"}]
        wanted = {"account_id": self.account, "job_id": self.id, "outcome": "succeeded", "outputs": outputs}
        finished: Any = self.service.rpc("finish_generation", wanted).execute().data
        assert finished["credits_charged"] == 3


def stored_files(stack: Stack) -> set[str]:
    """What lies in the folder of the bytes."""
    root = stack.gateway_settings().storage_folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def refusal_of(act: Callable[..., object], *arguments: Any) -> tuple[str, str]:
    """(status, error) of the StorageApiError that the call must end in."""
    with pytest.raises(StorageApiError) as caught:
        act(*arguments)
    return str(caught.value.status), str(caught.value.code)


@dataclass(frozen=True)
class RawStorage:
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


def get_signed(env: Env, path: str, token: str) -> httpx.Response:
    """The object through a token, with no key at all."""
    return httpx.get(f"{env.api_url}/storage/v1/object/sign/{path}", params={"token": token})


def signed_url_token(env: Env, path: str, seconds: float = 60, secret: str | None = None) -> str:
    claims = {"url": path, "iat": int(time.time()) - 100, "exp": int(time.time() + seconds)}
    return jwt.encode(claims, secret or env.jwt_secret, algorithm="HS256")


FORM_PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s'
