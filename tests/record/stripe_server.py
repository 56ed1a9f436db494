"""Stripe's meter events on loopback, as a script wants them: refusing, slow, or forgetting to answer."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Step = str | tuple[int, dict[str, Any]]
"""``ok``; ``lost``: taken, and the connection breaks before the answer; ``slow``: taken, and answered too late; or a
status and an error, nothing taken."""


class StripeServer:
    """``taken`` holds what was accepted, by identifier; a second event of the same identifier changes nothing."""

    def __init__(self, script: Callable[[int], Step] = lambda _: "ok", slow_s: float = 1.0) -> None:
        self.script = script
        self.taken: dict[str, dict[str, str]] = {}
        self.requests: list[dict[str, str]] = []
        self.idempotency_keys: list[str] = []
        self._lock = threading.Lock()
        outer = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._serve(self, slow_s)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "StripeServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, door: BaseHTTPRequestHandler, slow_s: float) -> None:
        body = parse_qs(door.rfile.read(int(door.headers["Content-Length"])).decode(), keep_blank_values=True)
        event = {name: values[0] for name, values in body.items()}
        with self._lock:
            step = self.script(len(self.requests))
            self.requests.append(event)
            self.idempotency_keys.append(door.headers["Idempotency-Key"])
            if isinstance(step, str):
                self.taken.setdefault(event["identifier"], event)
        if step == "lost":
            door.close_connection = True
            return
        if step == "slow":
            time.sleep(slow_s)
        status, answer = step if isinstance(step, tuple) else (200, {"object": "billing.meter_event", **event})
        content = json.dumps(answer).encode()
        try:
            door.send_response(status)
            door.send_header("Content-Type", "application/json")
            door.send_header("Content-Length", str(len(content)))
            door.end_headers()
            door.wfile.write(content)
        except ConnectionError:  # whoever asked has given up
            return
