"""Where everything of ours lies on a host. Names only.

Must not: touch any of it.
"""

from __future__ import annotations

GENERATIONS = "/etc/recon/generations"
HOLD = "/etc/recon/hold.json"
COMMITTED = "/etc/containers/systemd/recon"
TRIAL = "/run/containers/systemd/recon-trial"
NATIVE = "/etc/systemd/system"
MASKS = "/run/systemd/system"
GATES = "/run"
"""Where an open gate has a directory of its name."""
BOOT_TARGET = "recon-boot.target"
STATE = "/var/lib/recon"
TRANSACTIONS = STATE + "/txn"
AGENTS = STATE + "/agent"
HISTORY = STATE + "/history.jsonl"
HISTORY_HEAD = STATE + "/history.head"
EPOCH = STATE + "/epoch"
TIMINGS = STATE + "/timings.json"
LAST_GENERATION = STATE + "/last-generation"
RUN = "/run/recon"
LOCK = RUN + "/lock"
LEASE = RUN + "/lease.json"
LAUNCH_LOCK = RUN + "/launch.lock"
LAUNCHING = RUN + "/launch.json"
FACTS = RUN + "/facts.json"
FOLLOWED = RUN + "/followed.json"
RELEASE = RUN + "/release.json"
IDLE = RUN + "/idle.json"
ADMISSION = RUN + "/admission.json"
OWN_ADDRESS = "127.82.69.67"
"""Where the agent's own calls to this host come from: a part of loopback that nobody else uses, R, E and C in ASCII."""
SCRATCH = RUN + "/verify"
DROP_CACHES = "/proc/sys/vm/drop_caches"
EXECUTOR = "recon-executor.service"
CURRENT_AGENT = AGENTS + "/current"
KEPT = STATE + "/kept.json"
ALERTS = STATE + "/alerts.json"
ALERTS_LOCK = RUN + "/alerts.lock"
WATCHDOG = STATE + "/watchdog.json"
WATCHDOG_JOURNAL = STATE + "/watchdog.jsonl"
LOOKS = RUN + "/watchdog.json"
WATCHDOG_SERVICE = "recon-watchdog.service"
WATCHDOG_TIMER = "recon-watchdog.timer"


def generation(number: int) -> str:
    """Return the directory of a generation."""
    return f"{GENERATIONS}/{number}"


def history_part(number: int) -> str:
    """Return where a part of the history lies that is not the live one any more."""
    return f"{STATE}/history-{number}.jsonl"


def transaction(txid: str) -> str:
    """Return the directory of a transaction."""
    return f"{TRANSACTIONS}/{txid}"


def unit_of(quadlet: str) -> str:
    """Return the service that a `.container` file becomes."""
    return quadlet[: -len(".container")] + ".service"
