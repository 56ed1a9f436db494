"""How long a caller waits: from the end of speech to the first audio of the answer, as the client sees it.

    .venv/bin/python bench/first_audio.py [--turns 20]

Real speech models, queues and sockets; the language model is scripted with a fixed first token. The end of speech is
the last loud sample of the recording, so the silence that ends a turn is part of every figure. The baseline is the
same product without its head start: there the recogniser begins when the turn has ended.
"""

import argparse
import asyncio
import statistics

from product import REPOSITORY, describe_machine, running_product, scripted_llm

from agentvoicebox.cli.caller import Caller, Turn
from speech.audio import read_wav, resample
from speech.engines import TTS_HZ, Pcm

CLIPS = ["librivox-0930.wav", "cards-005.wav", "goforward.wav", "librivox-0880.wav", "librivox-0890.wav"]
STAGES = ("turn_end", "transcript", "first_token", "first_audio")
NO_HEAD_START_MS = "10000"


def read_clip(name: str) -> Pcm:
    pcm, hz = read_wav(REPOSITORY / "tests" / "clips" / name)
    return resample(pcm, hz, TTS_HZ)


async def take_turns(demo: dict[str, str], count: int) -> list[Turn]:
    clips = [read_clip(name) for name in CLIPS]
    turns = []
    async with Caller(demo["realtime_url"], demo["api_key"], f"agent:{demo['agent']}") as caller:
        await caller.speak(clips[0])  # the first turn opens connections; it is not counted
        for number in range(count):
            turn = await caller.say(clips[number % len(clips)])
            await caller.hear_first(turn, 300)
            await caller.send({"type": "response.cancel"})
            caller.stop_playing()
            await caller.hear_out(turn)
            turns.append(turn)
    return turns


def print_table(title: str, turns: list[Turn]) -> float:
    print(f"\n{title} ({len(turns)} turns)")
    print(f"  {'ms after the end of speech':28}{'p50':>8}{'p95':>8}{'max':>8}")
    median = 0.0
    for stage in STAGES:
        times = sorted(ms for turn in turns if (ms := turn.stages_ms()[stage]) is not None)
        if not times:
            continue
        median = statistics.median(times)
        p95 = times[min(len(times) - 1, round(0.95 * (len(times) - 1)))]
        print(f"  {stage.replace('_', ' '):28}{median:8.0f}{p95:8.0f}{times[-1]:8.0f}")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--first-token-ms", type=int, default=50)
    arguments = parser.parse_args()
    print(describe_machine())
    medians = []
    with scripted_llm(arguments.first_token_ms) as url:
        for title, environment in (
            ("as it is", {}),
            ("baseline: recognition begins when the turn has ended", {"AVB_CALL_PAUSE_MS": NO_HEAD_START_MS}),
        ):
            with running_product(OPENAI_BASE_URL=url, AVB_LLM_MODEL="scripted", **environment) as demo:
                medians.append(print_table(title, asyncio.run(take_turns(demo, arguments.turns))))
    print(f"\nfirst audio, median against baseline: {medians[0] / medians[1]:.2f}")


if __name__ == "__main__":
    main()
