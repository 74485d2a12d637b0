"""Follows a page word for word: runs the commands of its `console` blocks and compares what they print.

    .venv/bin/python -m tests.docs.follow docs/tutorial.md      # write into the page what the commands print now

A block is lines of `$ command` and what it printed. A line `...` stands for output that is left out. What differs from
run to run (times, names of transactions, digests) is not compared.

Must not: use a shell; a page that needs more than the few programs below is too hard to follow.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from reconciler.cli.app import run

LEFT_OUT = "..."
ALLOWED = frozenset({"recon", "cd", "echo", "sed", "git", "cat", "ls"})

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OWNER = re.compile(r"claiming the host for \S+")
_VOLATILE = (
    (re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}"), "TXID"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"\b(?:[0-9a-f]{12}|[0-9a-f]{16})\b"), "HEX"),
    (_OWNER, "claiming the host for OWNER"),
    (re.compile(r"^ *\d+\.\ds "), "TIME "),
    (re.compile(r"\b(?:\d+h)?(?:\d+m)?\d+(?:\.\d)?s (ago|;)"), r"TIME \1"),
    (re.compile(r"\babout \d\S*"), "about TIME"),
    (re.compile(r"\bin (?:\d+h)?(?:\d+m)?\d+(?:\.\d)?s; runs"), "in TIME; runs"),
    (re.compile(r"\[main [0-9a-f]+\]"), "[main HEX]"),
    (re.compile(r"\bpid \d+"), "pid N"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a page and what the page says it prints."""

    command: str
    printed: tuple[str, ...]


@dataclass(slots=True)
class Walk:
    """A walk through a page: where one is, and how the last command ended."""

    here: Path
    code: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> tuple[str, ...]:
        """Do what a line says and return the lines it prints."""
        command, _, dropped = command.partition(" 2>")
        program, *words = shlex.split(command)
        if program not in ALLOWED:
            raise ValueError(f"a page cannot be followed with {program}")
        if program == "cd":
            self.here = (self.here / words[0]).resolve(strict=True)
            return ()
        if program == "echo":
            return (str(self.code),)
        printed = self._recon(words, dropped=bool(dropped)) if program == "recon" else self._other([program, *words])
        return tuple(line.rstrip() for line in printed.rstrip("\n").split("\n")) if printed else ()

    def _recon(self, words: list[str], *, dropped: bool) -> str:
        """Run recon in this process: the same entry, without paying for its start thirty times."""
        out = io.StringIO()
        with (
            contextlib.chdir(self.here),
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO() if dropped else out),
        ):
            self.code = run(words)
        return out.getvalue()

    def _other(self, argv: list[str]) -> str:
        done = subprocess.run(
            argv,
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment},
            check=False,
        )
        self.code = done.returncode
        return done.stdout.decode()


def steps_of(block: str) -> list[Step]:
    """Return the commands of a block with what follows each."""
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], ()))
        else:
            last = steps.pop()
            steps.append(Step(last.command, (*last.printed, line)))
    return steps


def blocks_of(page: str) -> list[str]:
    """Return the console blocks of a page."""
    return [match[1] for match in _BLOCK.finditer(page)]


def settled(line: str) -> str:
    """Return a line without what differs from run to run."""
    for pattern, word in _VOLATILE:
        line = pattern.sub(word, line)
    return line.rstrip()


def is_as_printed(said: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Say whether a page tells the truth about what was printed, around what it leaves out."""
    want, have = [settled(line) for line in said], [settled(line) for line in printed]
    if LEFT_OUT not in want:
        return want == have
    at = want.index(LEFT_OUT)
    head, tail = want[:at], want[at + 1 :]
    return len(have) >= len(head) + len(tail) and have[:at] == head and have[len(have) - len(tail) :] == tail


def shortened(said: tuple[str, ...], printed: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was printed, leaving out as much in the middle as the page did."""
    if LEFT_OUT not in said:
        return printed
    at = said.index(LEFT_OUT)
    after = len(said) - at - 1
    return (*printed[:at], LEFT_OUT, *printed[len(printed) - after :])


def fresh_walk(folder: Path) -> Walk:
    """Return a walk that begins in an empty folder, with nobody's settings."""
    settings = {
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "you",
        "GIT_AUTHOR_EMAIL": "you@example.net",
        "GIT_COMMITTER_NAME": "you",
        "GIT_COMMITTER_EMAIL": "you@example.net",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    return Walk(folder, environment=settings)


def rewritten(page: str, walk: Walk) -> str:
    """Return the page with what its commands print now."""

    def block(match: re.Match[str]) -> str:
        lines: list[str] = []
        for step in steps_of(match[1]):
            printed = tuple(_OWNER.sub("claiming the host for you@laptop", line) for line in walk.run(step.command))
            lines += [f"$ {step.command}", *shortened(step.printed, printed)]
        return "```console\n" + "".join(line + "\n" for line in lines) + "```"

    return _BLOCK.sub(block, page)


def main() -> None:
    """Rewrite the pages named on the command line."""
    for name in sys.argv[1:]:
        path = Path(name)
        with tempfile.TemporaryDirectory(prefix="recon-docs-") as folder:
            path.write_text(rewritten(path.read_text(encoding="utf-8"), fresh_walk(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
