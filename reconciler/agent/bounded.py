"""Waits for a call no longer than it may take, whatever the kernel does to it.

Reading /proc of a process that is stuck inside a GPU driver can block for ever, and a blocked thread cannot be stopped.
So such a call runs in a thread that is left behind when it is late.

Must not: be used for anything that changes the machine, for nobody knows when a late call takes effect.
"""

import threading
from typing import Any, Callable, List, Tuple, TypeVar

from .machine import Begun

T = TypeVar("T")


def within(call: Callable[[], T], timeout_s: float) -> T:
    """Return what a call returns or raise what it raises; TimeoutError when it is late."""
    results: List[Tuple[bool, Any]] = []
    thread = threading.Thread(target=_record, args=(call, results), daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    ok, result = results[0]
    if not ok:
        raise result
    answer: T = result
    return answer


def parallel(calls: List[Callable[[], T]]) -> List[T]:
    """Run all at the same time and return the results in order; the first exception is raised when all have ended."""
    results: List[List[Tuple[bool, Any]]] = [[] for _ in calls]
    threads = [
        threading.Thread(target=_record, args=(call, result), daemon=True) for call, result in zip(calls, results)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if not result[0][0]:
            raise result[0][1]
    return [result[0][1] for result in results]


def begin(call: Callable[[], Any]) -> Begun:
    """Run a call in a thread of its own, which ends with the process when nobody heard of its end."""
    results: List[Tuple[bool, Any]] = []

    def result() -> Any:
        ok, found = results[0]
        if not ok:
            raise found
        return found

    threading.Thread(target=_record, args=(call, results), daemon=True).start()
    return Begun(lambda: bool(results), result)


def _record(call: Callable[[], Any], results: List[Tuple[bool, Any]]) -> None:
    # BaseException: a thread's SystemExit would otherwise vanish, and the caller would wait for a result.
    try:
        results.append((True, call()))
    except BaseException as error:
        results.append((False, error))
