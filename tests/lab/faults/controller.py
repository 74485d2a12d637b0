"""Runs recon with a fault at one of its own stages: the same program, which meets it right before it does the stage.

    python controller.py STAGE WORD -- WORDS OF RECON

| word | what happens there |
|---|---|
| kill | SIGKILL to itself |
| stop | SIGSTOP to itself; who waits for that decides how it goes on |
| fail | the next read of a file fails with EIO |
| clock=S | the wall clock is S seconds off from there on |

Must not: change recon's code where no fault is asked for.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import signal
import sys
import time
from typing import Any

STAGES = {
    "T0": ("reconciler.workflow.repository", "load_fleet"),
    "T1": ("reconciler.workflow.planning", "observe_hosts"),
    "T2": ("reconciler.workflow.planning", "plan_fleet"),
    "T3": ("reconciler.apply.run", "_Run._hand_over"),
}
"""Which function of recon does a stage."""


def strike(word: str) -> None:
    """Do what the word says."""
    word, _, amount = word.partition("=")
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "fail":
        _fail_once()
    elif word == "clock":
        real, offset = time.time, float(amount)
        time.time = lambda: real() + offset
    else:
        raise ValueError(word)


def _fail_once() -> None:
    real = os.read

    def read(*_: Any) -> bytes:
        os.read = real
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.read = read


def trap(stage: str, word: str) -> None:
    """Let this process meet the fault the first time it comes to the stage."""
    module, path = STAGES[stage]
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    inner = getattr(owner, name)

    def trapped(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, inner)
        sys.stderr.write(f"fault: {word} at {stage}\n")
        sys.stderr.flush()
        strike(word)
        return inner(*args, **kwargs)

    setattr(owner, name, trapped)


def main() -> None:
    """Be recon."""
    stage, word, _, *words = sys.argv[1:]
    trap(stage, word)
    sys.argv = ["recon", *words]
    importlib.import_module("reconciler.cli.app").main()


if __name__ == "__main__":
    main()
