"""Asks NVML in a child process: the library may hang in the driver, crash, or change the process it runs in.

The child answers one JSON document on a pipe. Past the deadline it is killed, and left behind when even that does not
work (a process stuck in a driver cannot be killed). The answer, `Raw`, is what NVML said and nothing more:

    {"error": {"code": int or None, "text": str} or None,   # None: NVML spoke, and `gpus` is what it knows
     "driver": str or None, "library": str or None,
     "gpus": [{"index": int, "error": null or {"code", "text"},          # a lost GPU keeps only these two
               "uuid", "name", "bus",                                    # each a Val of str
               "memory": Val of {"total", "reserved", "used", "free"},   # bytes; v2: used without reserved
               "bar1": Val of int, "numa_node": Val of int, "addressing": Val of int, "recovery_action": Val of int,
               "utilization": Val of int,                                # per cent of the time that a program ran
               "mig": null or the UUID of the GPU this instance is a part of,
               "processes": Val of [{"pid": int, "bytes": int or null, "kind": "C" | "G" | "M" | "C+G" ...}],
               "suspect": bool}]}                                        # rows with impossible pids were dropped
    Val: {"ok": value} or {"error": "not_supported" | "no_permission" | "not_found" | "lost" | "error", "code": int}

Must not: interpret; `gpu.py` does, and it alone knows what unknown means for a swap.
"""

import contextlib
import json
import os
import select
import signal
import time
import warnings
from typing import Any, Callable, Dict, List, Optional

Raw = Dict[str, Any]

LIBRARY_MISSING = 12
TIMED_OUT = 10
_ANSWER_LIMIT = 8 << 20


def begin(timeout_s: float, ask: Optional[Callable[[], Raw]] = None) -> Callable[[], Raw]:
    """Fork the child that asks and return how to get its answer by the deadline."""
    ends = time.monotonic() + timeout_s
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns when threads run; the agent starts this child before it starts any.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_child(writing, ask or _ask_nvml)
    os.close(writing)
    return lambda: _collect(pid, reading, ends, timeout_s)


def _be_the_child(writing: int, ask: Callable[[], Raw]) -> None:
    """Ask, answer, end. Nothing of the parent may run in here again, whatever happens."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)  # the library prints, and stdout carries frames
        # A child that the driver keeps must not keep the host's lock with it, which hangs on a descriptor.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != writing:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        signal.alarm(0)
        data = json.dumps(ask()).encode()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(writing, rest) :]
    except BaseException as error:  # nothing may unwind into the parent's code
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(failed(None, f"{type(error).__name__}: {error}")).encode())
    finally:
        os._exit(0)


def _collect(pid: int, reading: int, ends: float, timeout_s: float) -> Raw:
    pieces: List[bytes] = []
    size = 0
    try:
        while size <= _ANSWER_LIMIT:
            ready, _, _ = select.select([reading], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                _abandon(pid)
                return failed(TIMED_OUT, f"no answer within {timeout_s:g} s")
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    finally:
        os.close(reading)
    # A child that has answered may still get stuck in the driver on its way out, so the wait is bounded.
    status = _reap(pid)
    try:
        answer: Raw = json.loads(b"".join(pieces).decode())
    except ValueError:
        return failed(None, _how_it_ended(status))
    return answer


def _how_it_ended(status: Optional[int]) -> str:
    if status is not None and os.WIFSIGNALED(status):
        return f"the NVML library crashed with {signal.Signals(os.WTERMSIG(status)).name}"
    return "the NVML child ended without an answer"


def _abandon(pid: int) -> None:
    """Kill the child; wait a little, but never for one that the kernel holds."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    _reap(pid)


def _reap(pid: int) -> Optional[int]:
    """Return how the child ended, None when it does not end soon."""
    for _ in range(500):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    return None


def failed(code: Optional[int], text: str) -> Raw:
    """Return the answer of an NVML that told nothing."""
    return {"error": {"code": code, "text": text}, "driver": None, "library": None, "gpus": []}


def _ask_nvml() -> Raw:
    from . import nvml  # only the child may load the library; a look that needs no GPU does not import it

    return nvml.ask()
