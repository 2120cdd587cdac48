"""What the gateway does with a request before and after PostgREST: keys, headers, CORS."""

import hmac
import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from scripts.local.stack.keys import Keys, generate, load_or_create
from tests.support.clock import until
from tests.support.projects import Checkout

FIXTURES = """
create table public.fruit (id int primary key, name text not null);
insert into public.fruit select n, 'fruit ' || n from generate_series(1, 2000) n;
grant select on public.fruit to anon, authenticated;
grant select, insert on public.fruit to service_role;

create function public.who_am_i() returns text language sql as $$ select current_user::text $$;
create function public.claim(name text) returns text language sql as $$ select auth.jwt() ->> name $$;

create function public.refuse(status text) returns void language plpgsql as $$
begin
    raise exception using
        errcode = 'PT' || status, message = 'refused', detail = '{"required": 10}', hint = 'buy more';
end $$;
"""


ECHO = """
from starlette.responses import JSONResponse
async def app(scope, receive, send):
    await JSONResponse({"path": scope["path"]})(scope, receive, send)
"""


@pytest.fixture(scope="module")
def function(running: Checkout) -> Callable[[str, str], str]:
    """Put a function into the checkout: its name and text -> its path."""

    def put(name: str, text: str) -> str:
        folder = running.root / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.py").write_text(text)
        return f"/functions/v1/{name}"

    return put


@pytest.fixture(scope="module")
def api(running: Checkout) -> Iterator[httpx.Client]:
    """An HTTP client for a stack with some fixtures in its database; it sends no key by itself."""
    with running.connect() as db:
        db.execute(FIXTURES)
    status = running.status()
    with httpx.Client(base_url=status.api_url, timeout=10) as client:
        key = {"apikey": status.anon_key}
        # PostgREST hears of the new tables within a moment.
        until(lambda: client.post("/rest/v1/rpc/who_am_i", headers=key).status_code == 200)
        yield client


def role(api: httpx.Client, headers: dict[str, str], query: str = "") -> str:
    answer = api.post(f"/rest/v1/rpc/who_am_i{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json())


def test_no_key(api: httpx.Client) -> None:
    for path in ("/rest/v1/fruit", "/auth/v1/user", "/storage/v1/bucket", "/elsewhere"):
        answer = api.get(path)
        assert answer.status_code == 401
        assert answer.json()["message"] == "No API key found in request"
        assert answer.headers["access-control-allow-origin"] == "*"


def test_wrong_key(api: httpx.Client, running: Checkout) -> None:
    for key in (
        "nonsense",
        "sb_secret_wrong",
        running.status().anon_key + "x",
        "ключ".encode().decode("latin-1"),
    ):
        answer = api.get("/rest/v1/fruit", headers={b"apikey": key.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.json()["message"] == "Invalid API key"


def test_each_key_acts_as_its_role(api: httpx.Client, running: Checkout) -> None:
    status = running.status()
    for key, expected in (
        (status.anon_key, "anon"),
        (status.publishable_key, "anon"),
        (status.service_role_key, "service_role"),
        (status.secret_key, "service_role"),
    ):
        assert role(api, {"apikey": key}) == expected
        assert role(api, {"apikey": key, "Authorization": f"Bearer {key}"}) == expected
        assert role(api, {}, f"?apikey={key}") == expected


def test_a_user_token_wins_over_the_key(api: httpx.Client, running: Checkout) -> None:
    status = running.status()
    claims = {"role": "authenticated", "sub": "x", "exp": time.time() + 60}
    token = jwt.encode(claims, status.jwt_secret, algorithm="HS256")
    for key in (status.publishable_key, status.secret_key, status.anon_key):
        assert role(api, {"apikey": key, "Authorization": f"Bearer {token}"}) == "authenticated"


def test_es256_tokens_are_accepted_and_published(api: httpx.Client, running: Checkout) -> None:
    keys = load_or_create(running.stack.paths.file("secrets.json"))
    claims = {"role": "authenticated", "sub": "me", "exp": time.time() + 60}
    token = jwt.encode(claims, keys.es256_private_pem, algorithm="ES256", headers={"kid": keys.es256_kid})
    headers = {"apikey": keys.publishable_key, "Authorization": f"Bearer {token}"}
    assert role(api, headers) == "authenticated"
    assert api.post("/rest/v1/rpc/claim", json={"name": "sub"}, headers=headers).json() == "me"

    published = api.get("/auth/v1/.well-known/jwks.json").json()["keys"]  # no key is needed for this
    assert [key["kty"] for key in published] == ["EC"]
    assert "d" not in published[0]
    verified = jwt.decode(token, jwt.PyJWK(published[0]), algorithms=["ES256"])
    assert verified["sub"] == "me"


def hs256(claims: dict[str, Any], secret: bytes, **header: str) -> str:
    """Signed by hand: the library refuses to take a public key for a secret."""
    parts = ({"alg": "HS256", "typ": "JWT", **header}, claims)
    text = b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return f"{text.decode()}.{signature.decode()}"


def public_forms(keys: Keys) -> list[bytes]:
    """What somebody may take for a secret who has read jwks.json."""
    (key,) = keys.public_jwks()["keys"]
    public = keys.public_key.key
    formats = [
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.X962, PublicFormat.UncompressedPoint),
    ]  # fmt: skip
    texts = [json.dumps(key), json.dumps(key, separators=(",", ":")), key["x"], key["y"], key["kid"], ""]
    return [*(public.public_bytes(*form) for form in formats), *(text.encode() for text in texts)]


FORGERIES: dict[str, Callable[[dict[str, Any], Keys], list[str]]] = {
    "expired": lambda claims, keys: [
        hs256({**claims, "exp": int(time.time()) - 60}, keys.jwt_secret.encode()),
        jwt.encode(
            {**claims, "exp": int(time.time()) - 60}, keys.es256_private_pem, "ES256",
            {"kid": keys.es256_kid},
        ),
    ],
    "other secret": lambda claims, keys: [hs256(claims, b"x" * 40)],
    "other key": lambda claims, keys: [
        jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers)
        for headers in ({"kid": keys.es256_kid}, {})
    ],
    "key in the header": lambda claims, keys: [
        jwt.encode(
            claims, other.es256_private_pem, "ES256",
            {"kid": keys.es256_kid, "jwk": other.public_jwks()["keys"][0]},
        )
        for other in (generate(),)
    ],
    "none": lambda claims, keys: [
        jwt.encode(claims, "", "none"), jwt.encode(claims, "", "none", {"kid": keys.es256_kid}),
    ],
    "public key as secret": lambda claims, keys: [
        hs256(claims, secret, **header)
        for secret in public_forms(keys)
        for header in ({}, {"kid": keys.es256_kid})
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_tokens_are_refused(
    api: httpx.Client, running: Checkout, function: Callable[[str, str], str], kind: str
) -> None:
    keys = load_or_create(running.stack.paths.file("secrets.json"))
    guarded = function("guarded", ECHO)
    claims = {"role": "service_role", "exp": int(time.time()) + 60}

    def answers(token: str) -> list[int]:
        both = {"apikey": keys.publishable_key, "Authorization": f"Bearer {token}"}
        return [
            api.post("/rest/v1/rpc/who_am_i", headers=both).status_code,
            api.get("/auth/v1/admin/users", headers=both).status_code,
            api.get("/storage/v1/bucket", headers=both).status_code,
            api.get("/storage/v1/bucket", headers={"Authorization": f"Bearer {token}"}).status_code,
            api.get(guarded, headers=both).status_code,
        ]

    # What is refused below is right but for the signature or the time.
    assert answers(hs256(claims, keys.jwt_secret.encode())) == [200, 200, 200, 200, 200]
    for token in FORGERIES[kind](claims, keys):
        assert answers(token) == [401, 403, 400, 400, 401]


def test_storage_is_content_with_a_token(api: httpx.Client, running: Checkout) -> None:
    """As the hosted one: resumable uploads send no API key."""
    keys = load_or_create(running.stack.paths.file("secrets.json"))
    claims = {"role": "service_role", "exp": int(time.time()) + 60}
    es256 = jwt.encode(claims, keys.es256_private_pem, "ES256", {"kid": keys.es256_kid})
    for token in (keys.service_role_key, es256):
        bearer = {"Authorization": f"Bearer {token}"}
        name = f"tokens-{uuid.uuid4().hex}"
        assert api.post("/storage/v1/bucket", json={"name": name}, headers=bearer).status_code == 200
        stored = api.post(f"/storage/v1/object/{name}/a.txt", content=b"a", headers=bearer)
        assert stored.status_code == 200, stored.text
        assert api.get(f"/storage/v1/object/authenticated/{name}/a.txt", headers=bearer).content == b"a"
    # Row level security holds as ever, a wrong key is a wrong key, and the others want one.
    anon = {"Authorization": f"Bearer {keys.anon_key}"}
    assert api.post("/storage/v1/bucket", json={"name": "not-for-anon"}, headers=anon).status_code == 400
    assert api.get("/storage/v1/bucket", headers={"Authorization": "Bearer x.y.z"}).status_code == 400
    assert api.get("/storage/v1/bucket", headers={**bearer, "apikey": "wrong"}).status_code == 401
    for path in ("/rest/v1/fruit", "/auth/v1/user", "/storage/v10/bucket"):
        assert api.get(path, headers=bearer).json()["message"] == "No API key found in request"


def test_status_and_error_body_pass_unchanged(api: httpx.Client, running: Checkout) -> None:
    headers = {"apikey": running.status().publishable_key, "Origin": "http://localhost:3000"}
    for status in ("402", "403", "404", "409"):
        answer = api.post("/rest/v1/rpc/refuse", json={"status": status}, headers=headers)
        assert answer.status_code == int(status)
        assert answer.json() == {
            "code": f"PT{status}", "message": "refused", "details": '{"required": 10}', "hint": "buy more",
        }  # fmt: skip
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]


def test_paging_counting_and_formats(api: httpx.Client, running: Checkout) -> None:
    headers = {"apikey": running.status().publishable_key}
    page = api.get("/rest/v1/fruit?order=id", headers={**headers, "Range": "10-19", "Prefer": "count=exact"})
    assert page.status_code == 206
    assert page.headers["content-range"] == "10-19/2000"
    assert [row["id"] for row in page.json()] == list(range(11, 21))

    csv = api.get("/rest/v1/fruit?order=id&limit=2", headers={**headers, "Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text == 'id,name\n1,"fruit 1"\n2,"fruit 2"'

    head = api.head("/rest/v1/fruit", headers={**headers, "Prefer": "count=exact"})
    assert head.headers["content-range"].endswith("/2000")
    assert head.content == b""

    # The query reaches PostgREST as it was escaped.
    quoted = api.get("/rest/v1/fruit?name=in.(%22fruit%201%22,%22a%2Cb%22)", headers=headers)
    assert [row["id"] for row in quoted.json()] == [1]


def test_rows_per_answer_are_limited_as_hosted(api: httpx.Client, running: Checkout) -> None:
    answer = api.get("/rest/v1/fruit", headers={"apikey": running.status().publishable_key})
    assert len(answer.json()) == 1000


def test_large_bodies_pass_both_ways(api: httpx.Client, running: Checkout) -> None:
    headers = {"apikey": running.status().secret_key, "Prefer": "return=representation"}
    rows = [{"id": 10_000 + n, "name": "x" * 10_000} for n in range(300)]
    answer = api.post("/rest/v1/fruit", json=rows, headers=headers)
    assert answer.status_code == 201
    assert len(answer.json()) == 300
    with running.connect() as db:
        db.execute("delete from public.fruit where id >= 10000")


def test_preflight(api: httpx.Client) -> None:
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,apikey,x-client-info,prefer",
    }
    for path in ("/rest/v1/rpc/who_am_i", "/auth/v1/token", "/storage/v1/object/a/b"):
        answer = api.options(path, headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]


def test_what_is_not_there_says_so(api: httpx.Client, running: Checkout) -> None:
    headers = {"apikey": running.status().publishable_key}
    assert api.get("/storage/v1/absent", headers=headers).status_code == 404
    assert api.get("/functions/v1/absent").status_code == 404
    assert api.get("/functions/v1/../x", headers=headers).status_code == 404
    assert api.get("/elsewhere", headers=headers).status_code == 404


def test_functions_are_mounted(api: httpx.Client, running: Checkout) -> None:
    folder = running.root / "functions" / "echo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.py").write_text(
        "import os\n"
        "from starlette.responses import JSONResponse\n"
        "async def app(scope, receive, send):\n"
        "    answer = JSONResponse({'path': scope['path'], 'url': os.environ['SUPABASE_URL']}, 418)\n"
        "    await answer(scope, receive, send)\n"
    )
    path = "/functions/v1/echo/some/where"
    # As hosted, a function is for tokens of this project unless config.toml says otherwise.
    assert api.get(path).json()["code"] == "UNAUTHORIZED_NO_AUTH_HEADER"
    wrong = api.get(path, headers={"Authorization": "Bearer x.y.z"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "UNAUTHORIZED_INVALID_JWT_FORMAT")
    allowed = {"Authorization": f"Bearer {running.status().anon_key}"}
    answer = api.get(path, headers=allowed)
    assert answer.status_code == 418
    assert answer.json() == {"path": "/some/where", "url": running.status().api_url}
    assert "access-control-allow-origin" not in answer.headers

    (running.root / "functions" / "broken").mkdir()
    (running.root / "functions" / "broken" / "index.py").write_text("raise RuntimeError('no')")
    assert api.get("/functions/v1/broken").status_code == 503

    config = running.root / "supabase" / "config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text("[functions.open]\nverify_jwt = false\n[functions.shut]\nverify_jwt = true\n")
    for name, status in (("open", 418), ("shut", 401)):
        (folder.parent / name).mkdir()
        (folder.parent / name / "index.py").write_text((folder / "index.py").read_text())
        assert api.get(f"/functions/v1/{name}").status_code == status
        assert api.get(f"/functions/v1/{name}", headers=allowed).status_code == 418


OWN_CORS = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"access-control-allow-origin", b"https://app.example.com"),
               (b"access-control-allow-headers", b"x-mine"), (b"access-control-max-age", b"5"),
               (b"x-method", scope["method"].encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
"""


def test_cors_of_functions_is_their_own(
    api: httpx.Client, running: Checkout, function: Callable[[str, str], str]
) -> None:
    """Else a function without it works here and in no browser once it is deployed."""
    allowed = {"Authorization": f"Bearer {running.status().anon_key}", "Origin": "http://localhost:3000"}
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}

    def cors(answer: httpx.Response) -> dict[str, str]:
        return {key: value for key, value in answer.headers.items() if key.startswith("access-control-")}

    own, none = function("cors-own", OWN_CORS), function("cors-none", ECHO)
    expected = {
        "access-control-allow-origin": "https://app.example.com", "access-control-allow-headers": "x-mine",
        "access-control-max-age": "5",
    }  # fmt: skip
    for answer, method in (
        (api.post(own, headers=allowed), "POST"),
        (api.options(own, headers=asked), "OPTIONS"),
    ):
        assert (answer.status_code, answer.headers["x-method"], cors(answer)) == (201, method, expected)
    assert cors(api.post(none, headers=allowed)) == {}
    assert cors(api.options(none, headers=asked)) == {}
    # A page can read why its call reached no function.
    assert (
        cors(api.post(own)) == cors(api.post("/functions/v1/absent")) == {"access-control-allow-origin": "*"}
    )
    assert api.options("/functions/v1/absent", headers=asked).status_code == 404


@pytest.mark.parametrize("path", ["/realtime/v1/websockets?apikey=x", "/functions/v1/echo", "/nothing"])
def test_a_websocket_is_refused_in_a_sentence(running: Checkout, path: str) -> None:
    address = running.status().api_url.replace("http", "ws") + path
    log = running.stack.paths.file("gateway.log")
    before = log.read_text()
    for _ in range(3):
        with pytest.raises(InvalidStatus) as refusal, connect(address, proxy=None):
            pass
        assert refusal.value.response.status_code == 404
        assert path.partition("?")[0] in json.loads(refusal.value.response.body)["message"]
    assert log.read_text() == before


def test_only_this_machine_is_served(running: Checkout) -> None:
    """Nothing listens on another address than 127.0.0.1."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = open(table).read().splitlines()[1:]  # noqa: PTH123, SIM115
        except FileNotFoundError:
            pytest.skip("needs /proc")
        ports = {running.port, running.port + 1}
        for line in lines:
            address, state = line.split()[1], line.split()[3]
            host, _, port = address.partition(":")
            if state == "0A" and int(port, 16) in ports:
                assert host == "0100007F"
