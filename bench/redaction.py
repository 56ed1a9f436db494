"""How long it takes to look through what was said for personal data.

    .venv/bin/python bench/redaction.py [--rounds 200]

One core, all kinds, each text by itself: turns of a call, a long answer, and the texts that take longest.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from product import describe_machine

from agents.guard.detectors import KINDS, find

TEXTS = {
    "a short turn": "Yes, that would be fine, thank you.",
    "a turn with a card": "It is four one one one, one one one one, one one one one, one one one one. Thanks.",
    "a turn with a number": "You can reach me at 0170 1234567, or write to ann dot smith at example dot com.",
    "an answer, 400 characters": "We have a table for two at seven, or one of the larger ones at half past eight. " * 5,
    "1,000 characters": "I would like to book a table, and my number is 0170 1234567 if you need it at all. " * 12,
    "1,000 characters of digits": "1 " * 500,
    "1,000 characters, the slowest": "born 1 2 3, at a.b@c 12:34:56 de89 +49 170 " * 23,
    "100,000 characters": "I would like to book a table, and my number is 0170 1234567 if you need it at all. " * 1_200,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print(describe_machine())
    print(f"{'':32} {'characters':>10} {'median ms':>10} {'p99 ms':>10} {'found':>6}")
    for name, text in TEXTS.items():
        took = []
        for _ in range(max(3, rounds // (1 + len(text) // 1_000))):
            began = time.perf_counter()
            found = find(text, KINDS)
            took.append((time.perf_counter() - began) * 1_000)
        p99 = sorted(took)[int(len(took) * 0.99)]
        print(f"{name:32} {len(text):10} {statistics.median(took):10.3f} {p99:10.3f} {len(found):6}")


if __name__ == "__main__":
    main()
