"""Brings what a reboot cut off to its end, at the first look of the watchdog after it.

The host booted what is committed without anybody's help. But while a transaction has no end the watchdog may not look
after that, and people wait for an outcome. So it ends what can be told to be of an earlier boot, under the host's lock
and a claim of its own, the way the next executor would.

Must not: end what may still be under way, or go on with it.
"""

from __future__ import annotations

from . import interrupted, outcome, places, watch_deeds
from .lease import LeaseError
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError
from .systemd import SystemdError
from .txn import HaltError
from .watch_site import ApartError, Site, stay_away


def end_interrupted(machine: Machine, site: Site) -> str:
    """Do it and say so; return nothing when there is nothing to end, ApartError when it cannot be done now."""
    found = interrupted.of_an_earlier_boot(machine)
    # Asked once after a boot: it means reading the history.
    untold = outcome.untold(machine) if machine.stat(places.LOOKS) is None else []
    names = ", ".join(found or [each["txid"] for each in untold])
    if not names:
        return ""
    try:
        with machine.lock(places.LOCK):
            for each in untold:
                outcome.settle(machine, each)
            if not found:
                return ""
            # An end starts nothing: covens that a person has down stay so, and whoever waits is told all the same.
            stay_away(machine, must_have_ended=False, asks_covens=False)
            run = watch_deeds.open_run(machine, site.host, site.boot_id, f"bringing {names} to its end after a reboot")
            try:
                with run.step("settle", f"{names} was cut off by a reboot"):
                    interrupted.settle(run)
            finally:
                watch_deeds.close_run(run)
    except BusyError as error:
        raise ApartError("somebody has the host's lock") from error
    except (HaltError, LeaseError, OSError, RecordError, SystemdError) as error:
        raise ApartError(f"{names} could not be brought to its end: {clean(str(error), 600)}") from error
    return f"brought {names} to its end after a reboot"
