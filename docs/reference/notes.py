"""What the tables cannot say of themselves: a line for each event and error, and for fields that need one."""

CLIENT_EVENTS = {
    "session.update": "`session.updated` with the whole effective session. Absent keeps, null clears, arrays replace; "
    "a refused update changes nothing",
    "input_audio_buffer.append": "nothing; with turn detection, `input_audio_buffer.speech_started` and what follows "
    "once somebody speaks",
    "input_audio_buffer.commit": "`input_audio_buffer.committed`, `conversation.item.added`, `conversation.item.done`; "
    "never a response",
    "input_audio_buffer.clear": "`input_audio_buffer.cleared`",
    "output_audio_buffer.clear": "an error: over a WebSocket there is no output buffer to clear",
    "conversation.item.create": "`conversation.item.added`, `conversation.item.done`. `previous_item_id`: absent "
    "appends, `root` puts first",
    "conversation.item.truncate": "`conversation.item.truncated`; the transcript keeps the words heard until "
    "`audio_end_ms`",
    "conversation.item.delete": "`conversation.item.deleted`",
    "conversation.item.retrieve": "`conversation.item.retrieved`, with the audio of spoken parts",
    "response.create": "`response.created` and the response's events, `response.done` last, then "
    "`rate_limits.updated`; nothing where the server [goes on by itself](#tools-that-the-server-runs) already",
    "response.cancel": "the end of the response, with status `cancelled`",
}

SERVER_EVENTS = {
    "error": "an event was refused; `event_id` is the client's, null when it had none. The session goes on",
    "session.created": "first of all",
    "session.updated": "after `session.update`",
    "input_audio_buffer.speech_started": "somebody speaks; `audio_start_ms` counts from the session's first sample and "
    "includes the prefix padding",
    "input_audio_buffer.speech_stopped": "the turn is over",
    "input_audio_buffer.committed": "the turn, or what was committed, becomes the item `item_id`",
    "input_audio_buffer.cleared": "after `input_audio_buffer.clear`",
    "input_audio_buffer.timeout_triggered": "the caller said nothing for `idle_timeout_ms` after the answer had been "
    "played; an empty item and a response follow",
    "rate_limits.updated": "after `response.done`: what is left of the requests and tokens per minute, counted with "
    "all else that the tenant does",
    "conversation.item.added": "an item has its place; an assistant's is still empty",
    "conversation.item.done": "the item is complete",
    "conversation.item.retrieved": "after `conversation.item.retrieve`",
    "conversation.item.deleted": "after `conversation.item.delete`",
    "conversation.item.truncated": "after `conversation.item.truncate`",
    "conversation.item.input_audio_transcription.delta": "words of the caller, where the session asks for them: "
    "segment by segment once the item is there, or [while they are said](#words-of-the-caller)",
    "conversation.item.input_audio_transcription.completed": "all words of the item, which are those of its deltas, "
    "and the seconds they took",
    "conversation.item.input_audio_transcription.segment": "with `gpt-4o-transcribe-diarize`: the same words as the "
    "delta behind it, who spoke (`A`, the caller), and when, in seconds from the item's start",
    "conversation.item.input_audio_transcription.failed": "the words are lost; the item stays, and is answered",
    "response.created": "a response begins: asked for, or after a turn",
    "response.done": "it has ended: `completed`, `cancelled`, `incomplete` or `failed`. Every response says so once",
    "response.output_item.added": "a message, a call or a request for approval begins",
    "response.output_item.done": "it is complete",
    "response.content_part.added": "the message's part begins, of type `text` or `audio`",
    "response.content_part.done": "the part is complete; no sound in it",
    "response.output_text.delta": "words of a written answer",
    "response.output_text.done": "all of them",
    "response.output_audio_transcript.delta": "words of a spoken answer, just before their sound",
    "response.output_audio_transcript.done": "all of them",
    "response.output_audio.delta": "sound in the session's output format, base64, at most 200 ms",
    "response.output_audio.done": "the sound is complete",
    "response.function_call_arguments.delta": "a piece of the arguments, which are JSON in a string",
    "response.function_call_arguments.done": "all of them, with `name` and `call_id`",
    "response.mcp_call_arguments.delta": "a piece of the arguments of a tool that the server runs",
    "response.mcp_call_arguments.done": "all of them",
    "response.mcp_call.in_progress": "the tool runs; an approved one after the response that asked for it",
    "response.mcp_call.completed": "it has an `output`",
    "response.mcp_call.failed": "it has an `error` instead",
    "mcp_list_tools.in_progress": "an MCP server that the client named is asked for its tools",
    "mcp_list_tools.completed": "they are in the item, and can be called",
    "mcp_list_tools.failed": "they are not known, and nothing of this server can be called",
}

_MEDIA = "belongs to media tracks (WebRTC, SIP)"
NEVER_SAID = {
    "conversation.created": "beta dialect only",
    "conversation.item.created": "beta dialect only",
    "output_audio_buffer.started": _MEDIA,
    "output_audio_buffer.stopped": _MEDIA,
    "output_audio_buffer.cleared": _MEDIA,
    "input_audio_buffer.dtmf_event_received": "belongs to SIP",
}

WITHOUT_EFFECT = "taken and shown; no effect"
TO_THE_MODEL = "given to the language model where a client set it; one that does not know it answers without"
NOISE = "[filters](#noise-reduction) what is appended from then on; `strength` 1 when absent at first"
STORED = (
    "`id` is an agent's name, `version` the number of one of its versions: its instructions, with `variables` filled "
    "in, unless `instructions` come with it"
)
OPUS = "`audio/opus` is [this server's own](#opus)"
FIELDS = {
    "session.model": "fixed when the session opens; another one is ignored",
    "session.output_modalities": "exactly one: speech with its transcript, or text",
    "session.parallel_tool_calls": TO_THE_MODEL,
    "session.reasoning.effort": TO_THE_MODEL,
    "session.tracing": f"{WITHOUT_EFFECT}: traces are sent nowhere",
    "session.tools": "at first the agent's functions; what the server runs for the agent is not shown",
    "session.prompt": STORED,
    "session.include": "adds `logprobs` to the transcripts and their deltas: one entry a word",
    "session.truncation": "what happens when the conversation outgrows the model: `auto` drops the oldest items, "
    "`disabled` fails the response",
    "session.audio.input.format": OPUS,
    "session.audio.output.format": OPUS,
    "session.audio.output.voice": "OpenAI's names, and Kokoro's 54; fixed once the assistant has spoken, but for a "
    "hand-off",
    "session.audio.input.noise_reduction": NOISE,
    "transcription_session.audio.input.noise_reduction": NOISE,
    "session.audio.input.transcription": "asks for transcription events. Every model name is taken; the configured "
    "recogniser does the work",
    "transcription.model": "`gpt-live-transcribe` and `gpt-realtime-whisper`: words flow while they are said; "
    "`gpt-4o-transcribe-diarize`: with segments",
    "response.conversation": "`none`: beside the conversation, any number at the same time within `AVB_CALL_RESPONSES`",
    "response.input": "replaces the conversation as context; `[]` is no context",
    "response.metadata": "repeated in `response.created` and `response.done`",
    "response.parallel_tool_calls": TO_THE_MODEL,
    "response.reasoning.effort": TO_THE_MODEL,
    "response.tools": "in the place of all others, the agent's own included",
    "response.tool_choice": "holds for the first round of calls",
    "response.prompt": STORED,
    "transcription.delay": "how often words are told while they are said: every `AVB_CALL_GUESS_MS` times "
    "0.5, 0.75, 1, 1.5 or 2.5; taken and not shown",
    "transcription.languages": "a single one is the language that is heard; of several the recogniser finds out",
    "transcription.keywords": "words that the recogniser may expect, behind those of `prompt`",
    "transcription.prompt": "words that the recogniser may expect",
    "turn_detection.threshold": "how loud speech must be, 0 to 1, to count",
    "turn_detection.eagerness": "waits at most 8 s (`low`), 4 s (`medium`, `auto`) or 2 s (`high`) for a caller "
    "who may not have finished",
    "turn_detection.idle_timeout_ms": "ask a silent caller again",
    "turn_detection.interrupt_response": "whether speech ends the answer under way",
    "turn_detection.create_response": "whether a turn is answered",
    "beta.session.temperature": "shown again, 0.8 at first; no effect: the agent's own counts",
    "beta.session.client_secret": "taken, not shown",
    "beta.session.turn_detection": "`none` is the reference client's null",
    "beta.response.temperature": "shown again; no effect",
    "beta.response.max_output_tokens": "the same as `max_response_output_tokens`",
    "tool.parameters": "a JSON schema, opaque to the server",
    "tool.server_label": "one of its own for each server",
    "tool.connector_id": "refused: connectors are OpenAI's own",
    "tool.tunnel_id": "refused: tunnels are OpenAI's own",
    "tool.authorization": "sent to the MCP server as a bearer token, and never shown again",
    "tool.headers": "sent to the MCP server, and never shown again",
    "tool.require_approval": "`always` when absent",
    "tool.defer_loading": WITHOUT_EFFECT,
    "tool.allowed_callers": WITHOUT_EFFECT,
    "item.status": "taken; a client's item is always `completed`",
}

ERRORS = {
    "invalid_json": "the frame is not JSON",
    "invalid_event": "the frame is binary",
    "invalid_type": "a field has another JSON type; null for a boolean counts",
    "invalid_value": "a field has none of its values; the message lists them. Also an unknown event type",
    "unknown_parameter": "a field that the event does not have, at any depth",
    "missing_required_parameter": "a field that it must have",
    "string_above_max_length": "ids beyond 32 characters, `event_id` beyond 512, tool descriptions beyond 1,024, audio "
    "beyond 15 MiB",
    "array_above_max_length": "more than 128 tools",
    "array_below_min_length": "no content, no languages, no keywords",
    "object_above_max_properties": "more than 16 pairs of metadata",
    "integer_below_min_value": "a whole number too small, such as a rate under 24,000",
    "integer_above_max_value": "a whole number too large",
    "decimal_below_min_value": "a number too small",
    "decimal_above_max_value": "a number too large",
    "cannot_update_voice": "the assistant has spoken; the voice stays",
    "session_too_large": "a session beyond `AVB_CALL_SESSION_BYTES`",
    "input_audio_buffer_commit_empty": "less than 100 ms since the last commit or clear",
    "input_audio_buffer_full": "more audio than `AVB_CALL_INPUT_AUDIO_S` waits for its commit",
    "conversation_already_has_active_response": "`response.create` while one is active",
    "conversation_too_long": "more items than `AVB_CALL_ITEMS`, or more text and images than `AVB_CALL_CONTENT_BYTES`",
    "too_many_responses": "more out-of-band responses than `AVB_CALL_RESPONSES`",
    "too_many_transcriptions": "more audio items under recognition than `AVB_CALL_TRANSCRIPTIONS`",
    "response_cancel_not_active": "there is nothing to cancel",
    "item_create_invalid_previous_item_id": "`previous_item_id` names no item",
    "item_create_duplicate_item_id": "the id is taken",
    "item_retrieve_invalid_item_id": "no such item",
    "item_delete_invalid_item_id": "no such item",
    "item_truncate_invalid_item_id": "no such item",
    "item_reference_invalid_item_id": "`response.input` names no item",
    "unsupported_content_type": "truncation of what is no spoken answer",
    "invalid_tool_call_id": "`call_id` of an output that no function call has",
    "invalid_approval_request_id": "an approval that nobody asked for, or that was given or refused already",
    "too_many_mcp_servers": "more tools of type `mcp` than `AVB_CALL_MCP_SERVERS`",
    "session_ending": "`response.create` after the agent has ended the call",
    "rate_limit_exceeded": "`response.create` beyond a limit, of type `rate_limit_error`; the session goes on. A turn "
    "that cannot be answered for that reason gets a response with status `failed` and the same code",
}
REFUSALS = {
    "invalid_api_key": ("3000", "the key is wrong, revoked or of another kind"),
    "missing_model": ("4000", "neither `model` nor `intent=transcription`"),
    "invalid_model": ("4000", "no such model and no such agent"),
    "beta_api_shape_disabled": ("4000", "the beta dialect, where `AVB_REALTIME_BETA` is `false`"),
    "invalid_end_user": ("4000", "`OpenAI-Safety-Identifier`, or `?user=`, of more than 200 characters"),
    "invalid_variable": ("4000", "a `?caller.…` that is no variable, is too long, or comes with a client secret"),
    "too_many_variables": ("4000", "more than 32 of them"),
    "too_many_sessions": ("1013", "as many calls as the tenant, the key or the end user may have; come again"),
    "rate_limit_exceeded": ("1013", "another limit has no room; 4000 where that lasts for more than a minute"),
    "too_many_connections": ("1013", "more than `AVB_CONNECTIONS_PER_SECOND`, or `…_PER_ADDRESS`; come again"),
    "service_unavailable": ("1013", "the server cannot take calls at the moment; come again"),
    "api_key_revoked": ("3000", "the key was revoked; calls in progress end with it too"),
    "api_key_expired": ("3000", "the key's time is over; the same"),
    "invalid_token": ("3000", "the access token is wrong"),
    "token_expired": ("3000", "the access token's time is over; calls in progress go on"),
    "oauth_client_revoked": ("3000", "the OAuth client was revoked; calls in progress end with it too"),
    "member_removed": ("3000", "the person who made the client secret left the tenant; the same"),
    "role_changed": ("3000", "calls in progress of a person whose role lost the scope `realtime` end so"),
    "tenant_suspended": ("3000", "the tenant opens nothing at the moment; the same"),
    "tenant_deleted": ("3000", "the tenant is being deleted; the same"),
    "ip_not_allowed": ("3000", "the key may not be used from this IP address"),
    "insufficient_scope": ("3000", "the key, the token or the person's role lacks the scope `realtime`"),
}
