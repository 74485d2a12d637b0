"""Which key of a new host is pinned: the one in git, the one that was named, a known one, or what a person confirms.

Must not: take a key that nobody vouches for, or one that is revoked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.enrolment.asked import Ears, Wish
from reconciler.errors import Problem, RefusedError
from reconciler.hosts.ssh_errors import revoked_host_key
from reconciler.load import host_file

if TYPE_CHECKING:
    from reconciler.hosts.known_hosts import HostKey, Trusted
    from reconciler.hosts.ssh import SshRun, Target

_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def key_to_pin(run: SshRun, target: Target, wish: Wish, ears: Ears) -> HostKey:
    """Return the key to pin: the one in git, the one that was named, one in known_hosts, or what a person confirms."""
    known = run.known_key(target)
    if target.host_key:
        # What git says stands, whatever the command line says; the login refuses a host that shows another key.
        (key,) = known.keys
        if wish.host_key is not None and key.fingerprint != wish.host_key.rstrip("="):
            detail = f"{host_file.path_of(wish.name)} pins {key.fingerprint}, --host-key says {wish.host_key}"
            fix = "find out which is right; only if the host was installed anew, change host_key: in the file"
            raise RefusedError(Problem("REC7420", "the host's key is not the one that was named", detail, fix))
        return key
    shown = run.shown_key(target)
    if shown is None:
        raise AssertionError("a handshake without a kind of key has one")
    if wish.host_key is not None:
        return _unless_revoked(_named_key(run, target, shown, wish.host_key.rstrip("=")), known, target)
    vouched = [key for key in known.keys if key not in known.revoked]
    if vouched:
        # Whether it is the right one is judged by the login, as for every connection; pin what is vouched for.
        return shown if shown in vouched else vouched[0]
    # A line that revokes keys vouches for none: the key is asked about like any other.
    _unless_revoked(shown, known, target)
    if not ears.confirm(f"{wish.address} shows {shown.kind} {shown.fingerprint}"):
        fix = "compare it on the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
        raise RefusedError(Problem("REC7420", "the host's key was not confirmed", str(target.place), fix))
    return shown


def _unless_revoked(key: HostKey, known: Trusted, target: Target) -> HostKey:
    """Return the key; one that known_hosts revokes is never pinned, whoever names or confirms it."""
    if key in known.revoked:
        raise revoked_host_key(target.place, key)
    return key


def _named_key(run: SshRun, target: Target, shown: HostKey, fingerprint: str) -> HostKey:
    """Return the key with the fingerprint that was given; a host has several, so each kind is looked at."""
    if shown.fingerprint == fingerprint:
        return shown
    offered = [shown]
    for kind in _KINDS:
        key = run.shown_key(target, kind=kind) if kind != shown.kind else None
        if key is not None and key.fingerprint == fingerprint:
            return key
        offered += [key] if key is not None else []
    listed = ", ".join(f"{key.kind} {key.fingerprint}" for key in offered)
    detail = f"{target.place} shows {listed}, and --host-key says {fingerprint}; somebody may be in between"
    fix = "compare it on the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    raise RefusedError(Problem("REC7420", "the host's key is not the one that was named", detail, fix))
