"""The ASGI application: sockets to the gateway, everything else to Django; both live as long as the server."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

django_application = get_asgi_application()

# Only now: these import models.
from agentvoicebox.gateway import Gateway  # noqa: E402
from realtime.rest.limits import BodyLimit  # noqa: E402
from realtime.transports.websocket import VoiceConsumer  # noqa: E402

gateway = Gateway()


async def voice(scope: Any, receive: Any, send: Any) -> None:
    await VoiceConsumer(gateway.voice)(scope, receive, send)


async def no_such_socket(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close", "code": 4404})


async def lifespan(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    await receive()
    try:
        await gateway.start()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await gateway.stop()
    await send({"type": "lifespan.shutdown.complete"})


application = ProtocolTypeRouter(
    {
        "http": BodyLimit(django_application),
        "websocket": URLRouter([re_path(r"^(?:v1|openai|openai/v1)/realtime/?$", voice), re_path(r"", no_such_socket)]),
        "lifespan": lifespan,
    }
)
