"""What a scenario needs from the hosts it plays on; the simulator and the lab both offer it.

A scenario speaks to recon only by its command line, and to the machines only by these words, so the same list of
scenarios runs on both and must agree.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RECON = (sys.executable, "-m", "reconciler")
Fault = Literal["never-healthy", "crash-at-start", "crash-after-ready"]


@dataclass(frozen=True)
class Ran:
    """A command of recon that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Request(ABC):
    """A request that a client made to a service."""

    @abstractmethod
    def answer_is_whole(self) -> bool:
        """Wait for the end of the answer and say whether nothing of it was cut."""


class LateRequest(ABC):
    """A request that a client makes a while from now."""

    @abstractmethod
    def was_refused(self) -> bool:
        """Wait for it and say whether its connection was refused."""


class World(ABC):
    """A state repository with hosts behind it."""

    root: Path
    hosts: tuple[str, ...]
    """At least two."""

    def argv(self, *argv: str) -> list[str]:
        return [*RECON, "-C", str(self.root), *argv]

    def recon(self, *argv: str) -> Ran:
        done = subprocess.run(
            self.argv(*argv), capture_output=True, check=False, stdin=subprocess.DEVNULL, env=environ()
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def plan(self, *hosts: str) -> Any:
        """Return the plan document for some hosts, all of them when none is named."""
        words = [word for host in hosts for word in ("--host", host)]
        return self.recon("plan", "--output", "json", *words).json

    def host_file(self, host: str) -> Path:
        return self.root / "desired" / "hosts" / f"{host}.yaml"

    def coven_file(self, coven: str) -> Path:
        return self.root / "desired" / "covens" / f"{coven}.yaml"

    def set_coven(self, host: str, coven: str) -> None:
        self.rewrite(self.host_file(host), r"(?m)^coven: .*$", f"coven: {coven}")

    @staticmethod
    def rewrite(file: Path, pattern: str, replacement: str) -> None:
        before = file.read_text(encoding="utf-8")
        after = re.sub(pattern, replacement, before, count=1)
        assert after != before, f"nothing to change in {file}"
        file.write_text(after, encoding="utf-8")

    def lets_sleep(self, coven: str) -> None:
        """Let the coven's vLLM offer what it offers in development mode: a pause, and a sleep."""
        file = self.coven_file(coven)
        text = file.read_text(encoding="utf-8")
        for key, old, new in (
            ("args", "args: [", "args: [--enable-sleep-mode, "),
            ("env", "env: {", 'env: {VLLM_SERVER_DEV_MODE: "1", '),
        ):
            whole = new.rstrip(", ") + ("]" if key == "args" else "}")
            text = text.replace(old, new) if old in text else f"{text.rstrip()}\n    {whole}\n"
        file.write_text(text, encoding="utf-8")

    def status(self, host: str) -> Any:
        return self.recon("status", "--host", host, "--output", "json").json["hosts"][host]

    def committed(self, host: str) -> int:
        number: int = self.status(host)["generation"]["value"]["number"]
        return number

    def member_unit(self, coven: str) -> str:
        """Return the unit of the coven's one GPU service."""
        return f"recon-{coven}-{self.service(coven)}.service"

    def main_pid(self, host: str, coven: str) -> int:
        units = self.status(host)["units"]["value"]
        return next(int(unit["main_pid"]) for unit in units if unit["name"] == self.member_unit(coven))

    @abstractmethod
    def service(self, coven: str) -> str: ...

    @abstractmethod
    def serves(self, host: str, coven: str) -> bool:
        """Ask the service itself, not recon."""

    @abstractmethod
    def request(self, host: str, coven: str, seconds: float) -> Request:
        """Start a request that takes that long."""

    @abstractmethod
    def post(self, host: str, coven: str, path: str) -> None:
        """Call the service as another program would, on a path with its query."""

    @abstractmethod
    def late_request(self, host: str, coven: str, after: float) -> LateRequest:
        """Let somebody make a request after so many seconds."""

    @abstractmethod
    def program(self, host: str, path: str, text: str) -> None:
        """Put a program of root on the host, in the few words of shell that a simulated one knows too."""

    @abstractmethod
    def set_fault(self, host: str, coven: str, fault: Fault) -> None: ...

    @abstractmethod
    def keep_memory(self, host: str) -> None:
        """Let the memory of ended processes never come back."""

    @abstractmethod
    def edit_unit(self, host: str, coven: str) -> None:
        """Change a line in the service's unit file by hand."""

    @abstractmethod
    def stop_unit(self, host: str, unit: str) -> None: ...

    @abstractmethod
    def stray(self, host: str) -> None:
        """Run a container beside recon that takes GPU memory."""

    @abstractmethod
    def take_down(self, host: str) -> None:
        """Switch a host off."""


def environ() -> dict[str, str]:
    """Return the variables of a command: compiled modules are kept between the many of them, whatever is preferred."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
