"""A small language model in a process of its own: llama.cpp behind OpenAI's chat completions on loopback.

    python -m agents.llm.embedded --model FILE.gguf --port 8081

For machines with no provider configured. Small models chat, and are often wrong.
"""

import argparse
import os
import signal
import sys
import threading

CONTEXT_TOKENS = 4096
ANSWER_TOKENS = 120


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m agents.llm.embedded", description=__doc__)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="embedded", help="what /v1/models calls it")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--parallel", type=int, default=4, help="answers at the same time")
    arguments = parser.parse_args(argv)
    if not os.access(arguments.model, os.R_OK):
        print(f"no readable model at {arguments.model}; run: ./avb models pull", file=sys.stderr)
        return 2

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.name}
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.n_ctx = CONTEXT_TOKENS * arguments.parallel
    params.n_parallel = arguments.parallel
    params.cpuparams.n_threads = arguments.threads
    params.cpuparams_batch.n_threads = os.cpu_count() or 2
    # Small models fall into loops: make repeating costly, and end what goes on for ever.
    params.n_predict = ANSWER_TOKENS
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 3
    params.antiprompt = ["\n"]  # spoken answers have one paragraph
    server = xllamacpp.Server(params)
    print(f"embedded language model listens at {server.listening_address}", flush=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    # llama.cpp's own threads end with the process; unwinding them can take seconds.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
