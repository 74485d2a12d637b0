"""Ask one host what its reaper would let go, or have it done, a bounded time for each question.

Must not: decide what goes, or ask again for a look: one that is cut short says so.
"""

from __future__ import annotations

from reconciler.errors import HostError, LockedError, RefusedError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.desired import Host
from reconciler.model.reaped import Counted, Reaped

DEADLINE_S = 150.0
_MOST_ROUNDS = 50
_SHOWN = 200
_ERRORS = {"REC7380": RefusedError, "REC7381": LockedError, "REC7382": LockedError, "REC7383": RefusedError}


def reap(host: Host, connect: Connect, *, go: bool, owner: str) -> Reaped:
    """Return what would go, or with `go` what went, of one host.

    Raises:
        RefusedError: REC7380 no reaper is committed there, REC7383 a declared directory is none for a reaper.
        LockedError: REC7381 somebody reaps there already, REC7382 a person holds the host.
        HostError: the host could not be asked, or has too many files to look at meanwhile.
    """
    transport = connect(host)
    args = {"go": go, "owner": owner, "host": host.name}
    try:
        done = read(Reaped, host.name, transport.ask("reap", args, deadline_s=DEADLINE_S))
        for _ in range(_MOST_ROUNDS):
            if not (go and done.more):
                break
            done = _together(done, read(Reaped, host.name, transport.ask("reap", args, deadline_s=DEADLINE_S)))
        return done
    except HostError as exc:
        problem = exc.problems[0]
        raise _ERRORS.get(problem.code, type(exc))(problem) from exc
    finally:
        transport.close()


def _together(first: Reaped, then: Reaped) -> Reaped:
    gone = Counted(files=first.gone.files + then.gone.files, bytes=first.gone.bytes + then.gone.bytes)
    listed = (*first.listed, *then.listed)[:_SHOWN]
    return then.model_copy(update={"found": first.found, "gone": gone, "listed": listed})
