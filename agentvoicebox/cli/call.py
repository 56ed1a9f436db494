"""``avb call``: speak to an agent with recordings, as any client would, and see how fast it answers."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np

from agentvoicebox.cli.caller import Caller, CallFailed, Turn
from agentvoicebox.stack.state import read_json, state_dir
from speech.audio import read_wav, resample, write_wav
from speech.engines import TTS_HZ, Pcm

STAGES = {
    "turn_end": "end of turn",
    "transcript": "transcript",
    "first_token": "first token",
    "first_audio": "first audio",
}


@click.command()
@click.argument("wavs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent", help="the agent's name; without it the demo agent")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="write what was heard to this WAV")
@click.option("--json", "as_json", is_flag=True, help="one JSON object per turn instead of the dialogue")
@click.option("--url", help="ws://… or wss://…/v1/realtime; without it the one that ./avb up started")
@click.option("--end-user", default="", help="whom the call is for, as usage, limits and privacy know them")
@click.option("--key", help="API key; without it the demo key", envvar="AVB_API_KEY")
@click.option("--barge-in", "barge_in_ms", type=click.IntRange(0), metavar="MS", help="speak over each answer after MS")
@click.option(
    "--format", "audio_format", type=click.Choice(["pcm", "pcmu", "pcma", "opus"]), default="pcm", show_default=True
)
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="seconds to wait for an answer")
def command(
    wavs: tuple[Path, ...],
    agent: str | None,
    out: Path | None,
    as_json: bool,
    url: str | None,
    end_user: str,
    key: str | None,
    barge_in_ms: int | None,
    audio_format: str,
    timeout_s: float,
) -> None:
    """Call an agent and speak the recordings WAVS to it, one turn each, at real pace.

    Prints the dialogue as it happens and, for each turn, the milliseconds from the end of speech in the recording to
    the end of the turn, the transcript, the model's first token and the first audio of the answer.
    """
    demo = read_json(state_dir() / "demo.json")
    url, key, agent = url or demo.get("realtime_url"), key or demo.get("api_key"), agent or demo.get("agent")
    if not (url and key and agent):
        raise click.ClickException("no demo is set up here: run ./avb up, or give --url, --key and --agent")
    if out is not None and not os.access(out.absolute().parent, os.W_OK):
        raise click.BadParameter(f"{out}: its directory is not there or cannot be written to")
    clips = []
    for wav in wavs:
        try:
            pcm, hz = read_wav(wav)
        except ValueError as error:
            raise click.BadParameter(f"{wav}: {error}") from error
        clips.append((wav, resample(pcm, hz, TTS_HZ)))
    caller = Caller(url, key, f"agent:{agent}", format=f"audio/{audio_format}", end_user=end_user)
    try:
        heard = asyncio.run(_call(caller, clips, barge_in_ms, timeout_s, as_json))
    except CallFailed as error:
        raise click.ClickException(str(error)) from error
    if out is not None:
        write_wav(out, heard, TTS_HZ)
        click.echo(f"what was heard is in {out} ({len(heard) / TTS_HZ:.1f} s)", err=True)


async def _call(
    caller: Caller, clips: list[tuple[Path, Pcm]], barge_in_ms: int | None, timeout_s: float, as_json: bool
) -> Pcm:
    turns: list[Turn] = []
    async with caller:
        if not as_json:
            click.echo(f"in call with {caller.session['model']} ({caller.session['id']})")
        for number, (wav, pcm) in enumerate(clips):
            if not as_json:
                click.echo(click.style(f"\n▶ speaking {wav} ({len(pcm) / TTS_HZ:.1f} s)", dim=True))
            turn = await caller.say(pcm)
            turns.append(turn)
            last = number == len(clips) - 1
            if barge_in_ms is None or last:
                await caller.hear_out(turn, timeout_s=timeout_s)
            else:
                await caller.hear_first(turn, barge_in_ms, timeout_s=timeout_s)
            _show(wav, turn, as_json, final=barge_in_ms is None or last)
        for error in caller.errors:
            click.echo(f"error from the server: {error['message']}", err=True)
    return np.concatenate([turn.pcm for turn in turns]) if turns else np.empty(0, np.int16)


def _show(wav: Path, turn: Turn, as_json: bool, *, final: bool) -> None:
    stages = turn.stages_ms()
    if as_json:
        shown: dict[str, Any] = {
            "wav": str(wav),
            "said": turn.said,
            "answer": turn.answer,
            "status": turn.status or "in_progress",
            "answer_ms": len(turn.pcm) * 1000 // TTS_HZ,
            "ms_after_speech": stages,
        }
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    click.echo(f"{click.style('caller', fg='cyan')}  {turn.said or '(no transcript)'}")
    answer = turn.answer.strip() or "(no words)"
    click.echo(f"{click.style('agent', fg='green')}   {answer}{'' if final else ' … (speaking over it)'}")
    if turn.status not in ("completed", "", "in_progress"):
        click.echo(f"        the answer ended as: {turn.status}")
    parts = [f"{label} {value:.0f} ms" for name, label in STAGES.items() if (value := stages[name]) is not None]
    click.echo(click.style(f"        after end of speech: {' → '.join(parts)}", dim=True))
