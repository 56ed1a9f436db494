"""Speech faster or slower at the same pitch, for speeds that a voice cannot speak by itself."""

from typing import Any

import av
import numpy as np

from speech.engines import Pcm


def change_tempo(pcm: Pcm, hz: int, factor: float) -> Pcm:
    """A whole recording, ``factor`` (0.5 to 100) times as fast; 1 gives the same array."""
    if factor == 1 or not len(pcm):
        return pcm
    graph: Any = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=hz, format="s16", layout="mono")
    stretch = graph.add("atempo", f"{factor:.4f}")
    # The filter works on floats; what comes out shall be samples again.
    samples = graph.add("aformat", "sample_fmts=s16:channel_layouts=mono")
    sink = graph.add("abuffersink")
    graph.link_nodes(source, stretch, samples, sink).configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), "s16", "mono")
    frame.sample_rate = hz
    frame.pts = 0
    graph.push(frame)
    graph.push(None)
    chunks = []
    while True:
        try:
            chunks.append(graph.pull().to_ndarray().reshape(-1))
        except (av.error.BlockingIOError, av.error.EOFError):
            return np.concatenate(chunks) if chunks else np.empty(0, np.int16)
