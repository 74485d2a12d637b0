"""Read the flags a real runtime would be given, and serve. Must not: refuse a flag it does not know."""

from __future__ import annotations

import argparse
import os
import sys

from .others import EVERY
from .server import Server


def parse(argv: list[str]) -> argparse.Namespace:
    runtime = os.environ.get("LAB_RUNTIME", "vllm")
    if argv[:3] == ["python3", "-m", "sglang.launch_server"]:
        argv, runtime = argv[3:], "sglang"
    if argv and argv[0] == "serve":
        argv = argv[1:]
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--runtime", choices=tuple(EVERY), default=runtime)
    parser.add_argument("--model", "-m", "--model-path", "--model-id")
    parser.add_argument("--served-model-name", "--alias", "-a")
    parser.add_argument("--host", "--hostname", "--listen", default="0.0.0.0")
    parser.add_argument("--port", type=int)
    parser.add_argument("--parallel", "-np", type=int)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--no-slots", action="store_true")
    parser.add_argument("--shutdown-timeout", type=float, default=0)
    parser.add_argument("--graceful-termination-timeout", type=float, default=90)
    parser.add_argument("--enable-server-load-tracking", action="store_true")
    parser.add_argument("--enable-sleep-mode", action="store_true")
    parser.add_argument("--enable-metrics", action="store_true")
    options, _ignored = parser.parse_known_args(argv)
    told = os.environ.get("OLLAMA_HOST", "").rpartition(":")[2]
    if options.runtime == "ollama" and told.isdigit():
        options.port = int(told)
    return options


if __name__ == "__main__":
    options = parse(sys.argv[1:])
    Server(options).run(EVERY[options.runtime])
