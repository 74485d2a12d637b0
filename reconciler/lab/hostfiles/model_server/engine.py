"""What a model server does between a request and its answer, and which misbehaviours are on.

Must not: know HTTP or a runtime.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

FAULT_FILE = "/run/lab-gpu/faults/%d.json"


class Faults:
    """Which misbehaviours are on now: those of the environment, and those of the host's file."""

    def __init__(self, port: int) -> None:
        self.path = FAULT_FILE % port
        self.fixed: dict[str, Any] = {}
        for part in filter(None, os.environ.get("LAB_FAULT", "").split(",")):
            name, _colon, seconds = part.strip().partition(":")
            self.fixed[name] = float(seconds) if seconds else True

    def get(self, name: str) -> Any:
        """Return the fault's value (True or seconds), or None when it is off."""
        now = dict(self.fixed)
        try:
            with open(self.path, encoding="utf-8") as stream:
                now.update(json.load(stream))
        except (OSError, ValueError):
            pass
        return now.get(name) or None


class Engine:
    """The requests of the server: at most `width` run, the rest wait; pausing holds those that would start."""

    def __init__(self, width: int, token_s: float) -> None:
        self.width = width
        self.token_s = token_s
        self.changed = threading.Condition()
        self.running = 0
        self.waiting = 0
        self.paused = False
        self.frozen = False
        self.sleeping: str | None = None
        self.gauges = (0, 0)
        self.epoch = 0
        self.closing = False
        self.answering = 0

    def tokens(self, count: int) -> Iterator[int]:
        """Yield once per token; stops early when the request is aborted."""
        with self.changed:
            self.waiting += 1
            try:
                self.changed.wait_for(self.may_begin)
            finally:
                self.waiting -= 1
            self.running += 1
            epoch = self.epoch
        try:
            for index in range(count):
                time.sleep(self.token_s)
                with self.changed:
                    self.changed.wait_for(lambda: not self.frozen or self.epoch != epoch)
                    if self.epoch != epoch:
                        return
                yield index
        finally:
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def may_begin(self) -> bool:
        return not self.paused and self.sleeping is None and self.running < self.width

    def sleep(self, state: str, mode: str) -> None:
        """Hold new requests and keep what the gauges say; `abort` ends those that run, `wait` waits for them."""
        with self.changed:
            self.gauges = (self.running, self.waiting)
            if mode == "abort":
                self.epoch += 1
            else:
                self.changed.wait_for(lambda: self.running == 0)
                self.gauges = (0, 0)
            self.sleeping = state
            self.changed.notify_all()

    def wake(self) -> None:
        with self.changed:
            self.sleeping = None
            self.changed.notify_all()

    def pause(self, mode: str) -> None:
        """Hold new requests; `abort` ends those that run, `wait` waits for them, `keep` freezes them."""
        with self.changed:
            self.paused = True
            if mode == "abort":
                self.epoch += 1
            if mode == "keep":
                self.frozen = True
            self.changed.notify_all()
            if mode != "keep":
                self.changed.wait_for(lambda: self.running == 0 or not self.paused)

    def resume(self) -> None:
        with self.changed:
            self.paused = self.frozen = False
            self.changed.notify_all()

    @contextlib.contextmanager
    def answer(self) -> Iterator[None]:
        """Count a request until its last byte is written, which is later than its last token."""
        with self.changed:
            self.answering += 1
        try:
            yield
        finally:
            with self.changed:
                self.answering -= 1
                self.changed.notify_all()

    def drain(self, timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.answering == 0, timeout)
