"""Whisper's features: the logarithm of the power in 80 mel bands, 100 times a second, at 16 kHz."""

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from speech.engines import STT_HZ

BANDS = 80
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
POWER_FLOOR = 1e-10
# Powers further below the loudest, in powers of ten, count as so far below it.
RANGE = 8.0
# A larger matrix product makes OpenBLAS wake its threads, which then spin for longer than all of this takes.
BLOCK_FRAMES = 16

# Slaney's mel scale: 3 mel for each 200 Hz up to 1 kHz, above it 27 mel for each factor of 6.4.
MEL_PER_HZ = 3 / 200
BEND_HZ = 1000.0
BEND_MEL = BEND_HZ * MEL_PER_HZ
MEL_PER_NEPER = 27 / np.log(6.4)


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(samples,) to (80, samples // 160): frames around every 160th sample, the sound mirrored at both ends.

    Reckoned in double precision, as models of Whisper's family are trained: an eight-bit model rounds what it is given,
    and errors of single precision, a millionth, tip enough of its roundings to move an undecided answer by 0.2.
    """
    mirrored = np.pad(samples.astype(np.float64), FRAME_SAMPLES // 2, mode="reflect")
    # The frame centred on the end is not Whisper's to see.
    frames = sliding_window_view(mirrored, FRAME_SAMPLES)[::HOP_SAMPLES][: len(samples) // HOP_SAMPLES]
    window, bands = _tables()
    spectrum = np.fft.rfft(frames * window)
    power = spectrum.real**2 + spectrum.imag**2
    blocks = [power[start : start + BLOCK_FRAMES] @ bands for start in range(0, len(power), BLOCK_FRAMES)]
    levels = np.log10(np.maximum(np.concatenate(blocks), POWER_FLOOR)).T
    scaled = (np.maximum(levels, levels.max() - RANGE) + 4) / 4
    return np.ascontiguousarray(scaled, dtype=np.float32)


@functools.cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The periodic Hann window (400,), and what each frequency adds to each band (201, 80): triangles of equal area,
    their corners evenly spaced in mel from 0 Hz to half the rate."""
    window = np.hanning(FRAME_SAMPLES + 1)[:-1]
    top_mel = BEND_MEL + MEL_PER_NEPER * np.log(STT_HZ / 2 / BEND_HZ)
    mel = np.linspace(0, top_mel, BANDS + 2)
    corners_hz = np.where(mel < BEND_MEL, mel / MEL_PER_HZ, BEND_HZ * np.exp((mel - BEND_MEL) / MEL_PER_NEPER))
    bins_hz = np.fft.rfftfreq(FRAME_SAMPLES, 1 / STT_HZ)
    bands = [
        np.interp(bins_hz, (low, centre, high), (0, 2 / (high - low), 0))
        for low, centre, high in zip(corners_hz, corners_hz[1:], corners_hz[2:], strict=False)
    ]
    return window, np.stack(bands, axis=1)
