"""What a model, or a text that is said in its place, makes of a response: words, sound, calls, and their end.

Results of a response that has no reply under way change nothing.
"""

from typing import Protocol

from agents.dialogue.context import ContextTooLong
from agents.spec import GuardRail
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.asking import Asking
from realtime.protocol.call import Call
from realtime.protocol.guarding import Gate
from realtime.protocol.response import Response

FILTERED = {"type": "incomplete", "reason": "content_filter"}


class Answering(Protocol):
    def find(self, response_id: str) -> Response | None: ...

    def end(self, response: Response, status: str, details: ev.JsonObject | None = None) -> None: ...

    def say_instead(self, rail: GuardRail) -> None: ...

    def run_tools(self, response: Response) -> None: ...

    def bridged(self, response: Response) -> None: ...


class Replies:
    def __init__(self, call: Call, asking: Asking, answering: Answering) -> None:
        self.call = call
        self._asking = asking
        self._answering = answering

    def ask(self, response: Response) -> None:
        """The model."""
        response.calls = {}
        try:
            request = self._asking.request(response)
        except ContextTooLong as error:
            failure = {"type": "invalid_request_error", "code": "context_length_exceeded", "message": str(error)}
            self._answering.end(response, "failed", {"type": "failed", "error": failure})
            return
        response.replying, response.gate = True, Gate(self.call.agent)
        self.call.do(do.StartReply(response.id, request, response.modality, response.voice, self._speed))

    def say(self, response: Response, words: str) -> None:
        """Words of the agent's own: they pass its guard rails."""
        response.replying, response.gate = True, None
        self.call.do(do.StartReply(response.id, None, response.modality, response.voice, self._speed, words))

    @property
    def _speed(self) -> float:
        return float(self.call.config.wire["audio"]["output"]["speed"])

    # ---- results ----

    def _under_way(self, response_id: str) -> Response | None:
        response = self._answering.find(response_id)
        return response if response is not None and response.replying else None

    def began(self, result: ev.ReplyBegan) -> None:
        if (response := self._under_way(result.response_id)) is not None:
            response.begin_message()

    def text(self, result: ev.ReplyText) -> None:
        if (response := self._under_way(result.response_id)) is None:
            return
        gate, told, rail = response.gate, result.text, None
        if gate is not None and response.modality == "audio":
            rail = gate.phrase(result.text)
            told = "" if rail is not None else told
        elif gate is not None:
            told, rail = gate.write(result.text)
        self._let_pass(response, told, rail)

    def _let_pass(self, response: Response, told: str, rail: GuardRail | None) -> bool:
        """Words that may be said, and what forbids the rest. Says whether the response goes on."""
        if told:
            response.text(told)
        if rail is None:
            return True
        self._answering.end(response, "incomplete", FILTERED)
        self.call.do(do.CancelReply(response.id))
        if response.conversation is not None:
            self._answering.say_instead(rail)
        return False

    def audio(self, result: ev.ReplyAudio) -> None:
        if (response := self._under_way(result.response_id)) is not None:
            response.audio(result.pcm_24khz)
            # Played from when the first of it was sent, or from the end of what was sent before.
            begins = max(response.played_until, self.call.heard_samples)
            response.played_until = begins + len(result.pcm_24khz)
            self.call.played_until = max(self.call.played_until, response.played_until)

    def tool_call(self, result: ev.ReplyToolCall) -> None:
        response = self._under_way(result.response_id)
        if response is None or response.gate is None or not self._let_pass(response, *response.gate.end()):
            return
        response.tool_call(result.index, result.name, result.arguments)

    def finished(self, result: ev.ReplyFinished) -> None:
        if (response := self._under_way(result.response_id)) is None:
            return
        response.count(result.input_tokens, result.output_tokens, result.cached_tokens)
        if result.degraded:
            self.call.tally.failed(self.call.agent)
        if response.bridging:
            self._answering.bridged(response)
            return
        self._asking.learn(response, result.input_tokens)
        if response.gate is not None and not self._let_pass(response, *response.gate.end()):
            return
        response.replying = False
        if result.reason in ("length", "content_filter"):
            reason = "max_output_tokens" if result.reason == "length" else "content_filter"
            self._answering.end(response, "incomplete", {"type": "incomplete", "reason": reason})
            return
        response.close_item()
        if response.gate is not None and response.calls:
            self._answering.run_tools(response)
        else:
            self._answering.end(response, "completed")

    def failed(self, result: ev.ReplyFailed) -> None:
        """A wait that could not be bridged goes on in silence."""
        if (response := self._under_way(result.response_id)) is None:
            return
        if response.bridging:
            self._answering.bridged(response)
            return
        kind = "rate_limit_error" if result.code == "rate_limit_exceeded" else "server_error"
        error = {"type": kind, "code": result.code, "message": result.message}
        self._answering.end(response, "failed", {"type": "failed", "error": error})
