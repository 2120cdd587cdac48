"""A provider is a file and a row: the file that the page shows."""

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _shared import settings
from _shared.errors import FunctionError
from scripts.local.providers.png import png
from tests.support.generate import HTTP, GenerateUser
from tests.support.pages import block
from tests.support.served import Served

PAGE = "functions/README.md"
IMAGE = png(32, 16, "acme")


@pytest.fixture
def acme() -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """A provider that nobody has heard of: its URL, and the calls it got."""
    calls: list[tuple[str, str, dict[str, Any]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append((self.path, self.headers["Authorization"], json.loads(body)))
            answer = json.dumps({"images": [{"png": base64.b64encode(IMAGE).decode()}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", calls
    server.shutdown()
    server.server_close()


def test_a_file_and_a_row(
    ann: GenerateUser, serve: Callable[..., Served], tmp_path: Path, prompt: str,
    acme: tuple[str, list[tuple[str, str, dict[str, Any]]]],
) -> None:  # fmt: skip
    (tmp_path / "acme.py").write_text(block(PAGE, "python", "class Acme"))
    ann.db.execute(
        "insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit, terms) "
        "values ('gen_acme', 'acme', 'acme-1', 'image', 4, "
        """'{"options": {"seed": {"min": 0, "max": 4294967295}}}')"""
    )
    served = serve(
        "tests.generation.http.with_acme",
        MORE_PROVIDERS=str(tmp_path), ACME_API_KEY="no-secret", ACME_BASE_URL=acme[0],
    )  # fmt: skip
    answer = ann.post(served, prompt, operation="gen_acme", options={"seed": 7}, n=2)
    ann.db.execute("update public.pricing_tiers set active = false where operation = 'gen_acme'")
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    assert [HTTP.get(output["url"]).content for output in outputs] == [IMAGE, IMAGE]
    body = {"model": "acme-1", "prompt": prompt, "seed": 7}
    assert acme[1] == [("/v1/images", "Bearer no-secret", body)] * 2
    ann.expect(8)


@pytest.mark.parametrize(
    "address", ["http://example.com", "ftp://127.0.0.1", "example.com", "http://10.0.0.1", "https://"]
)
def test_providers_are_asked_over_https(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "hush")
    monkeypatch.setenv("ACME_BASE_URL", address)
    with pytest.raises(FunctionError, match="ACME_BASE_URL"):
        settings.provider("ACME", "https://api.acme.example")
