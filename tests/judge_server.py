"""A real HTTP server that plays an OpenAI-compatible judge, well or badly behaved."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Hold what the server sends back: `body` as it stands, after `delay` seconds."""

    status: int = 200
    body: str = ""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def said(text: object) -> Reply:
    """Return a chat completion with a text, as sparse as small servers write it."""
    return Reply(body=json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}))


class JudgeServer:
    """Serve on a free port of this machine, in a thread; `replies` gets the request's JSON and its number, from 0.

    Attributes:
        requests: the JSON of each request.
        headers: the headers of each.
    """

    def __init__(self, replies: Callable[[dict[str, Any], int], Reply]) -> None:
        """Take what decides the answers."""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._replies, self._lock = replies, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Return the endpoint, as `--kick-judge` takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop, and close all."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append({**body, "path": handler.path})
            self.headers.append(dict(handler.headers))
        reply = self._replies(body, number)
        time.sleep(reply.delay)
        content = reply.body.encode()
        try:
            handler.send_response(reply.status)
            for name, value in {"Content-Type": reply.kind, "Content-Length": str(len(content)), **reply.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True  # the client did not wait
