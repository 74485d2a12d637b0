"""Read the flags a real runtime would be given, and serve. Must not: refuse a flag it does not know."""

from __future__ import annotations

import argparse
import os
import sys

from .handlers import HANDLERS
from .server import Server


def parse(argv: list[str]) -> argparse.Namespace:
    if argv and argv[0] == "serve":
        argv = argv[1:]
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument(
        "--runtime", choices=("vllm", "llamacpp", "generic"), default=os.environ.get("LAB_RUNTIME", "vllm")
    )
    parser.add_argument("--model", "-m")
    parser.add_argument("--served-model-name", "--alias", "-a")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int)
    parser.add_argument("--parallel", "-np", type=int)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--no-slots", action="store_true")
    parser.add_argument("--shutdown-timeout", type=float, default=0)
    parser.add_argument("--enable-server-load-tracking", action="store_true")
    options, _ignored = parser.parse_known_args(argv)
    return options


if __name__ == "__main__":
    options = parse(sys.argv[1:])
    Server(options).run(HANDLERS[options.runtime])
