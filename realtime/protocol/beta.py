"""Sessions of the beta dialect (``OpenAI-Beta: realtime=v1``): flat in and out, nested inside.

Only the shape changes here; what a flat session may hold is ``contract_beta``'s to say.
"""

from realtime.protocol.events import JsonObject

FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
BETA_FORMATS = {name: beta for beta, name in FORMATS.items()}
DEFAULT_TEMPERATURE = 0.8

SAME_NAME = ("model", "instructions", "tools", "tool_choice", "parallel_tool_calls", "tracing", "prompt", "include")
INPUT_NAMES = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}


def session_to_ga(flat: JsonObject, *, transcription: bool = False) -> JsonObject:
    """A flat session that ``contract_beta`` has checked, as ``contract.SESSION`` gives it: absent stays absent, null
    stays null. ``temperature`` and ``client_secret`` have no place in it and are left out.
    """
    session: JsonObject = {"type": "transcription" if transcription else "realtime"}
    session |= {name: flat[name] for name in SAME_NAME if name in flat}
    if "max_response_output_tokens" in flat:
        session["max_output_tokens"] = flat["max_response_output_tokens"]
    if "modalities" in flat and not transcription:
        # Both together meant speech with its transcript.
        session["output_modalities"] = ["audio"] if "audio" in flat["modalities"] else ["text"]
    heard: JsonObject = {inner: flat[name] for name, inner in INPUT_NAMES.items() if name in flat}
    if (heard.get("turn_detection") or {}).get("type") == "none":
        heard["turn_detection"] = None
    spoken: JsonObject = {name: flat[name] for name in ("voice", "speed") if name in flat}
    for name, side in (("input_audio_format", heard), ("output_audio_format", spoken)):
        if name in flat:
            side["format"] = _format(flat[name])
    audio = {name: side for name, side in (("input", heard), ("output", spoken)) if side}
    return session | ({"audio": audio} if audio else {})


def session_to_beta(wire: JsonObject, *, temperature: float = DEFAULT_TEMPERATURE) -> JsonObject:
    """An effective session (``SessionConfig.wire``) of either type as the beta dialect shows it."""
    heard = wire["audio"]["input"]
    flat: JsonObject = {
        "id": wire["id"],
        "object": wire["object"],
        "expires_at": wire["expires_at"],
        "input_audio_format": BETA_FORMATS[heard["format"]["type"]],
        "input_audio_transcription": heard["transcription"],
        "input_audio_noise_reduction": heard["noise_reduction"],
        "turn_detection": _turn_detection(heard["turn_detection"]),
        "include": wire["include"],
        "client_secret": None,
    }
    if wire["type"] == "transcription":
        return flat
    spoken = wire["audio"]["output"]
    return flat | {
        "model": wire["model"],
        "modalities": ["audio", "text"] if wire["output_modalities"] == ["audio"] else ["text"],
        "instructions": wire["instructions"],
        "voice": spoken["voice"],
        "speed": spoken["speed"],
        "output_audio_format": BETA_FORMATS[spoken["format"]["type"]],
        "tools": wire["tools"],
        "tool_choice": wire["tool_choice"],
        "temperature": temperature,
        "max_response_output_tokens": wire["max_output_tokens"],
        "tracing": wire["tracing"],
        "prompt": wire["prompt"],
    }


def _format(name: str) -> JsonObject:
    return {"type": FORMATS[name], "rate": 24_000} if name == "pcm16" else {"type": FORMATS[name]}


def _turn_detection(turn: JsonObject | None) -> JsonObject | None:
    """The beta dialect came before idle timeouts: it shows one only where one is set."""
    if turn is None:
        return None
    return {name: value for name, value in turn.items() if name != "idle_timeout_ms" or value is not None}
