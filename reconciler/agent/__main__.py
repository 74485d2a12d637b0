"""The agent's command line on a host: `execute TXID` and, after it, `recover TXID` are what the executor's unit runs.

`watch` is what the watchdog's runs, `schedule` the schedule's, `tend` the spiral's, `reap` the reaper's, and `deliver`
what sends events.

`observe` is for a look by hand, `history` verifies the parts of the history that nobody reads any more.

Must not: be how a controller talks to the agent (that is frames, see `wire`).
"""

import json
import os
import sys
from typing import Any, Dict, List, Optional

from . import dispatch, notify, wire
from .machine import Machine
from .real import RealMachine

USAGE = "usage: observe | execute TXID | recover TXID | watch | schedule | tend | reap | deliver | history"
_FAILED = 1
_USAGE = 64
_WAY_BACK_S = 30 * 86400.0
_ENDED_WELL = ("applied", "nothing")


def this_machine() -> Machine:
    """Return this computer as who runs this has it: root the system's, anybody else their own manager's."""
    if os.geteuid() == 0:
        return RealMachine()
    from .user_scope import UserMachine

    return UserMachine(RealMachine())


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit status; an execution that did not end as wished is 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    # The directory that holds this package is named after the digest of what is in it.
    digest = os.path.basename(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    ctx = {"digest": digest, "mode": "installed", "bundle": None}
    if words == ["observe"]:
        answer = dispatch.handle(this_machine(), "observe", {}, ctx)
        sys.stdout.write(json.dumps(answer, indent=1) + "\n")
        return 0
    if words in (["watch"], ["schedule"], ["deliver"]):
        dispatch.handle(this_machine(), words[0], {}, ctx)
        return 0
    if words in (["tend"], ["reap"]):
        return _by_timer(words[0], ctx)
    if words == ["history"]:
        from . import history_parts

        problems = list(history_parts.verify(this_machine()))
        sys.stdout.write("".join(line + "\n" for line in problems) or "all parts are as they were written\n")
        return _FAILED if problems else 0
    if len(words) == 2 and words[0] in ("execute", "recover"):
        from .outcome import has_ended  # a look by hand needs none of it

        machine = this_machine()
        if words[0] == "recover" and not has_ended(machine, words[1]):
            # A way back that is cut in the middle is followed by nobody; its waits are bounded by the plan's deadlines.
            notify.extend(_WAY_BACK_S)
        ended = dispatch.handle(machine, words[0], {"txid": words[1]}, ctx)
        sys.stdout.write(json.dumps(ended) + "\n")
        return 0 if ended["state"] in _ENDED_WELL else _FAILED
    sys.stderr.write(USAGE + "\n")
    return _USAGE


def _by_timer(verb: str, ctx: Dict[str, Any]) -> int:
    """Do what a timer of this host asks for; what was refused is in the log of its unit."""
    try:
        answer = dispatch.handle(this_machine(), verb, {"go": True, "by": "timer"}, ctx)
    except wire.RequestError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return _FAILED
    said = answer.get("said") or f"{answer['gone']['files']} files gone, {answer['stay']['files']} stay"
    sys.stdout.write(said + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
