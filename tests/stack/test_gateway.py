"""What the gateway does with a request before and after PostgREST: keys, headers, CORS."""

import time
from collections.abc import Iterator

import httpx
import jwt
import pytest

from scripts.local_stack.keys import load_or_create

from .conftest import Checkout

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


@pytest.fixture(scope="module")
def api(running: Checkout) -> Iterator[httpx.Client]:
    """An HTTP client for a stack with some fixtures in its database; it sends no key by itself."""
    with running.connect() as db:
        db.execute(FIXTURES)
    status = running.status()
    with httpx.Client(base_url=status.api_url, timeout=10) as client:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # PostgREST hears of the new tables within a moment
            if client.post("/rest/v1/rpc/who_am_i", headers={"apikey": status.anon_key}).status_code == 200:
                break
            time.sleep(0.05)
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


@pytest.mark.parametrize("kind", ["expired", "other secret", "none", "public key as secret"])
def test_forged_tokens_are_refused(api: httpx.Client, running: Checkout, kind: str) -> None:
    keys = load_or_create(running.stack.paths.file("secrets.json"))
    claims = {"role": "service_role", "exp": time.time() + 60}
    match kind:
        case "expired":
            token = jwt.encode({**claims, "exp": time.time() - 60}, keys.jwt_secret, algorithm="HS256")
        case "other secret":
            token = jwt.encode(claims, "x" * 40, algorithm="HS256")
        case "none":
            token = jwt.encode(claims, "", algorithm="none")
        case _:
            token = jwt.encode(claims, str(keys.public_jwks()["keys"][0]["x"]), algorithm="HS256")
    headers = {"apikey": keys.publishable_key, "Authorization": f"Bearer {token}"}
    assert api.post("/rest/v1/rpc/who_am_i", headers=headers).status_code == 401
    assert api.get("/auth/v1/admin/users", headers=headers).status_code == 403


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
    for path in ("/rest/v1/rpc/who_am_i", "/auth/v1/token", "/functions/v1/any"):
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
    folder.mkdir(parents=True)
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
    assert answer.headers["access-control-allow-origin"] == "*"

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
