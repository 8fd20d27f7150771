"""A small completion server of our own, whose answers a test scripts: it can fail in every way that real ones do."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["red", "green", "blue", "black", "white", "one", "two", "three", "four", "five", "six", "seven"]


@dataclass
class Reply:
    """What one request gets."""

    body: Any = None
    """JSON, or bytes as they are."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the first byte."""
    promised: int = 0
    """Bytes promised beyond those that come."""
    drip: float = 0.0
    """Seconds between two bytes, of the head too; for ever."""
    flood: int = 0
    """Further bytes that come, as fast as they are taken."""


def completion(text: str, finish: str = "stop", tokens: int | None = 5, **choice: Any) -> dict[str, Any]:
    """The body of a good answer."""
    usage = {"completion_tokens": tokens, "prompt_tokens": 3}
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, **choice}], "usage": usage}


def words(body: dict[str, Any]) -> Reply:
    """Four words that seed, prompt and temperature decide, as a sampling server would give."""
    if body["temperature"] == 0:
        return Reply(completion("red red red red"))
    chance = random.Random(f"{body['seed']} {body.get('prompt', body.get('messages'))} {body['temperature']}")
    return Reply(completion(" ".join(chance.choices(WORDS, k=4))))


Script = Callable[[dict[str, Any]], Reply]


class Scripted:
    """The server's address and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.flooded = 0
        """Bytes of floods that were taken."""


@contextmanager
def serving(scripts: dict[str, Script | list[str]]) -> Iterator[Scripted]:
    """A server on loopback that answers a path by its script; the list under "/v1/models" is what it says it serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served = scripts.get(self.path)
            known = isinstance(served, list)
            self._send(Reply({"data": [{"id": m} for m in served]}) if known else Reply({"detail": "no"}, 404))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.bodies.append(body)
            seen.headers.append(dict(self.headers))
            seen.paths.append(self.path)
            script = scripts.get(self.path)
            self._send(script(body) if callable(script) else Reply({"error": {"message": "Not Found"}}, 404))

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.delay)
            if reply.drip or reply.flood:
                self._without_end(reply)
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) + reply.promised))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # whoever asked has given up
                pass
            self.close_connection = True

        def _without_end(self, reply: Reply) -> None:
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if reply.drip else b"\r\n"))
                while reply.drip:
                    self.wfile.write(b"x")
                    time.sleep(reply.drip)
                for _ in range(reply.flood >> 20):
                    self.wfile.write(b" " * (1 << 20))
                    seen.flooded += 1 << 20
            except OSError:
                pass
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Quiet(("127.0.0.1", 0), Handler)
    seen = Scripted(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
