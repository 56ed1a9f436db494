"""Voice names: OpenAI's, and Kokoro's own. Whoever asks for an OpenAI voice gets the Kokoro voice nearest to it."""

from speech.engines import EngineRefused

OPENAI_VOICES = {
    "alloy": "af_alloy",
    "ash": "am_puck",
    "ballad": "bm_george",
    "cedar": "am_fenrir",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "marin": "af_heart",
    "nova": "af_nova",
    "onyx": "am_onyx",
    "sage": "af_sarah",
    "shimmer": "af_sky",
    "verse": "am_michael",
}

KOKORO_VOICES = frozenset(
    """
    af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky
    am_adam am_echo am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa
    bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis
    ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola
    jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa
    zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang
    """.split()  # noqa: SIM905
)

VOICES = KOKORO_VOICES | OPENAI_VOICES.keys()

# The first letter of a Kokoro voice, and the language that espeak shall spell the text in.
LANGUAGES = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn",
}


class UnknownVoice(EngineRefused):
    """No voice has that name; the message lists OpenAI's."""

    def __init__(self, voice: str) -> None:
        known = ", ".join(OPENAI_VOICES)
        super().__init__(f"there is no voice {voice!r}; use one of {known}, or a Kokoro voice such as af_heart")


def resolve_voice(voice: str) -> str:
    """The Kokoro voice of that name. Raises UnknownVoice."""
    chosen = OPENAI_VOICES.get(voice, voice)
    if chosen not in KOKORO_VOICES:
        raise UnknownVoice(voice)
    return chosen


def language_of(kokoro_voice: str) -> str:
    """The espeak language that a Kokoro voice speaks."""
    return LANGUAGES[kokoro_voice[0]]
