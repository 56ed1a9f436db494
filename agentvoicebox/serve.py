"""The gateway's server: uvicorn, told what a voice gateway needs, and patient with calls when it has to go.

    python -m agentvoicebox.serve --host 0.0.0.0 --port 8000

Told to stop (SIGTERM, SIGINT), it takes no new connection, and no new call on an old one, and waits for its calls to
end, ``AVB_DRAIN_S`` at most; then what is left is closed with 1012, which clients take for 'connect again', and gets
``FINISH_S``. A second signal does not wait.
"""

import argparse
import asyncio
import logging
import time
from types import FrameType
from typing import Any

import uvicorn
from environs import Env, validate
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

FRAME_BYTES = 32 * 1024 * 1024
"""The largest frame: 15 MiB of audio in base64, with room to spare. A larger one ends its connection with 1009."""
PING_S = 20.0
BACKLOG = 2048
DRAIN_S = 30.0
FINISH_S = 15
ARCHIVE_S = 10
"""What the archive gets after that to write what the calls have said."""

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """``drain_s``: how long calls may go on after the server was told to stop."""

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._impatient = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal ends the draining, a third one everything: then what calls still say is lost."""
        if self._impatient:
            self.force_exit = True
        self._impatient = self.should_exit
        self.should_exit = True

    def _calls(self) -> int:
        return sum(isinstance(connection, WebSocketsSansIOProtocol) for connection in self.server_state.connections)

    def _close_idle(self) -> None:
        """Requests under way are answered; what waits for its next one could ask to become a call, and is closed."""
        for connection in list(self.server_state.connections):
            if not isinstance(connection, WebSocketsSansIOProtocol) and not connection.transport.is_closing():
                connection.shutdown()

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        if calls := self._calls():
            log.info("draining: %d calls may go on for %g s", calls, self._drain_s)
        deadline = time.monotonic() + self._drain_s
        self._close_idle()
        while self._calls() and not self._impatient and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            # A connection that the kernel had accepted already may have come up since.
            self._close_idle()
        await super().shutdown(sockets)


def read_drain_s() -> float:
    """``AVB_DRAIN_S``. Raises environs.EnvError, which names it, where it is no number of seconds."""
    return Env().float("AVB_DRAIN_S", DRAIN_S, validate=validate.Range(min=0))


def stop_s() -> float:
    """How long the gateway may take to end; whoever kills it earlier loses what its calls have said."""
    return read_drain_s() + FINISH_S + ARCHIVE_S


def make_server(host: str, port: int) -> DrainingServer:
    """Raises environs.EnvError where the environment has a wrong value."""
    env = Env()
    config = uvicorn.Config(
        "agentvoicebox.asgi:application",
        host=host,
        port=port,
        loop="uvloop",
        ws="websockets-sansio",
        ws_max_size=FRAME_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=env.bool("AVB_WS_DEFLATE", True),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=FINISH_S,
    )
    return DrainingServer(config, read_drain_s())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agentvoicebox.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    server = make_server(arguments.host, arguments.port)
    server.run()
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
