"""What can go wrong on the way to a host, each said once: code, what, why with the elapsed time, what to type.

Must not: know a library; `ssh.py` sees the exceptions, this module has the words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import HostError, Problem, UnreachableError
from reconciler.hosts.known_hosts import HostKey

# Whole lines in the words of sudo or of the login shell: an agent that ran and died must not be taken for either.
_SHELL = r"^(\S*sh: |zsh:\d+: )"
_SUDO_PASSWORD = re.compile(r"^sudo: .*(password is required|terminal is required|must have a tty)", re.MULTILINE)
_SUDO_DENIED = re.compile(
    r"^\S+ is not in the sudoers file|^Sorry, user \S+ (is not allowed to execute|may not run sudo)"
    rf"|{_SHELL}.*\bsudo: (command not found|not found|[Pp]ermission denied)"
    rf"|{_SHELL}(command not found|permission denied): \S*sudo$",
    re.MULTILINE,
)
_NO_PYTHON = re.compile(
    rf"({_SHELL}|^sudo: ).*(python3.*(not found|No such file)|(not found|No such file).*python3)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection goes, as people know it."""

    host: str
    user: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} ({self.user}@{self.address}, port {self.port})"


def unknown_host_key(place: Place, offered: HostKey, *, is_jump: bool) -> UnreachableError:
    """REC6001: nobody has said that this key is the host's."""
    where = "put it in known_hosts" if is_jump else f"put this in desired/hosts/{place.host}.yaml: host_key: {offered}"
    return UnreachableError(
        Problem(
            "REC6001",
            "the host's key is not known",
            f"{place} shows {offered.kind} {offered.fingerprint}; without a known key anybody could answer",
            f"compare the fingerprint on the host's console, then {where}",
        )
    )


def changed_host_key(place: Place, offered: HostKey, expected: tuple[HostKey, ...]) -> UnreachableError:
    """REC6002: another key than the one that is pinned or known."""
    known = ", ".join(f"{key.kind} {key.fingerprint}" for key in expected)
    return UnreachableError(
        Problem(
            "REC6002",
            "the host's key is not the known one",
            f"{place} shows {offered.kind} {offered.fingerprint}, known is {known}; "
            "the host was installed anew, or somebody is in between",
            f"find out which; only if it was installed anew, replace host_key with: {offered}",
        )
    )


def revoked_host_key(place: Place, offered: HostKey) -> UnreachableError:
    """REC6003: the key is marked @revoked in known_hosts."""
    return UnreachableError(
        Problem(
            "REC6003",
            "the host's key is revoked",
            f"{place} shows {offered.kind} {offered.fingerprint}, which known_hosts marks as revoked",
            "give the host a new key, and put that one in host_key",
        )
    )


def authentication_failed(place: Place, tried: list[str], reason: str) -> UnreachableError:
    """REC6004: the host wants another key or user. It is never tried again: hosts lock out who insists."""
    keys = ", ".join(tried) if tried else "no key: the agent has none and there is no default key file"
    return UnreachableError(
        Problem(
            "REC6004",
            "the host refuses the login",
            f"{place} was offered {keys}; {reason}",
            f"check with: ssh -p {place.port} {place.user}@{place.address} true",
        )
    )


def key_needs_passphrase(place: Place, key: Path) -> UnreachableError:
    """REC6004 as well: the key cannot be opened without a person, and the agent does not have it."""
    return UnreachableError(
        Problem(
            "REC6004",
            "the private key has a passphrase",
            f"{key}, for {place}, is encrypted and the SSH agent does not hold it",
            f"ssh-add {key}",
        )
    )


def name_not_found(place: Place, reason: str, elapsed_s: float) -> UnreachableError:
    """REC6005: the address does not resolve."""
    return UnreachableError(
        Problem(
            "REC6005",
            "the address does not resolve",
            f"{place}: {reason}, after {elapsed_s:.1f}s",
            "check `address:` of the host and the resolver of this computer",
        )
    )


def timed_out(place: Place, phase: str, elapsed_s: float) -> UnreachableError:
    """REC6006: no answer in time; `phase` says what was being waited for."""
    return UnreachableError(
        Problem(
            "REC6006",
            "the host does not answer in time",
            f"{place}: {phase} took longer than allowed, given up after {elapsed_s:.1f}s",
            f"check that the host is up and that port {place.port} is not filtered",
        )
    )


def refused(place: Place, reason: str, elapsed_s: float) -> UnreachableError:
    """REC6007: the connection was not accepted."""
    return UnreachableError(
        Problem(
            "REC6007",
            "the host does not accept the connection",
            f"{place}: {reason}, after {elapsed_s:.1f}s",
            "check that the host is up, that sshd runs, and its port",
        )
    )


def lost(place: Place, reason: str, elapsed_s: float) -> UnreachableError:
    """REC6008: the connection ended in the middle of a request: what the host did is not known."""
    return UnreachableError(
        Problem(
            "REC6008",
            "the connection was lost in the middle of a request",
            f"{place}: {reason}, after {elapsed_s:.1f}s; what the host did is not known",
            f"recon status --host {place.host}",
        )
    )


def ended_without_reply(place: Place, status: int | None, stderr: str, otherwise: Problem) -> HostError:
    """Say why the fixed command ended early: sudo, no python3, or else what the output itself says."""
    said = ascii(stderr.strip()[:300])
    # In this order: sudo tells of a missing python3 in its own name.
    if _NO_PYTHON.search(stderr):
        return HostError(
            Problem(
                "REC6010",
                "the host has no /usr/bin/python3",
                f"{place}: status {status}, {said}",
                "install python3 (3.9 or newer) on the host",
            )
        )
    if _SUDO_PASSWORD.search(stderr) or _SUDO_DENIED.search(stderr):
        return HostError(
            Problem(
                "REC6009",
                "sudo does not let recon run python3",
                f"{place}: {said}",
                f"on the host: echo '{place.user} ALL=(root) NOPASSWD: /usr/bin/python3' "
                f"> /etc/sudoers.d/recon && chmod 440 /etc/sudoers.d/recon",
            )
        )
    if stderr.strip():
        detail = f"{otherwise.detail}; status {status}, stderr {said}"
        return HostError(Problem(otherwise.code, otherwise.summary, detail, otherwise.fix))
    return HostError(otherwise)
