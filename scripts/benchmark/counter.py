"""Stands between a function and the stack, and counts what passes."""

import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

PASSED_ON = ("Authorization", "apikey", "Content-Type", "x-upsert")


@dataclass(frozen=True)
class Seen:
    """A call that passed. `seconds` are those that the answer took."""

    path: str
    answer: bytes
    seconds: float


class Counter:
    """A proxy for POSTs on a port of its own. `seen` has each, in the order of the answers."""

    def __init__(self, target: str) -> None:
        self.seen: list[Seen] = []
        seen, address = self.seen, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                self.target = HTTPConnection(address, timeout=20)

            def finish(self) -> None:
                self.target.close()
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
                began = time.perf_counter()
                self.target.request("POST", self.path, body, headers)
                answer = self.target.getresponse()
                content = answer.read()
                seen.append(Seen(self.path, content, time.perf_counter() - began))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
