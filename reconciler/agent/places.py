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
HISTORY_LOCK = RUN + "/history.lock"
LEASE = RUN + "/lease.json"
LOCKS = STATE + "/locks.json"
LOCKS_LOCK = RUN + "/locks.lock"
LAUNCH_LOCK = RUN + "/launch.lock"
LAUNCHING = RUN + "/launch.json"
FACTS = RUN + "/facts.json"
FOLLOWED = RUN + "/followed.json"
RELEASE = RUN + "/release.json"
IDLE = RUN + "/idle.json"
ADMISSION = RUN + "/admission.json"
ADOPTING = RUN + "/adopting"
"""Where a unit of somebody else that a transition has down has an empty file of its name."""
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
LOOP = STATE + "/spiral.json"
"""What the spiral's tick remembers."""
REAPER_LOCK = RUN + "/reaper.lock"
TEND_LOCK = RUN + "/tend.lock"
TICK_SERVICE = "recon-spiral.service"
REAPER_SERVICE = "recon-reaper.service"
WATCHDOG_SERVICE = "recon-watchdog.service"
WATCHDOG_TIMER = "recon-watchdog.timer"
SCHEDULE = STATE + "/schedule.json"
SCHEDULE_LOOK = RUN + "/schedule.json"
SCHEDULE_SERVICE = "recon-schedule.service"
SCHEDULE_TIMER = "recon-schedule.timer"
REGISTRY = STATE + "/registry.json"
REGISTRY_LOCK = RUN + "/registry.lock"
DOWN = "/etc/recon/down"
"""Where people's marks lie that keep something down; units ask for the files themselves, so they must not move."""
DOWN_SPIRAL = DOWN + "/spiral.json"
DOWN_COVEN = DOWN + "/coven.json"
FORCED = DOWN + "/forced.json"
SPIRAL_TARGET = "recon-spiral.target"
OUTBOX = STATE + "/outbox"
OUTBOX_LOCK = RUN + "/outbox.lock"
DRIFT = RUN + "/drift.json"
SECRETS = "/etc/recon/secrets"
EVENTS_SERVICE = "recon-events.service"
EVENTS_TIMER = "recon-events.timer"


def generation(number: int) -> str:
    """Return the directory of a generation."""
    return f"{GENERATIONS}/{number}"


def history_part(number: int) -> str:
    """Return where a part of the history lies that is not the live one any more."""
    return f"{STATE}/history-{number}.jsonl"


def outbox(webhook: str) -> str:
    """Return the record of a webhook."""
    return f"{OUTBOX}/{webhook}.json"


def transaction(txid: str) -> str:
    """Return the directory of a transaction."""
    return f"{TRANSACTIONS}/{txid}"


def unit_of(quadlet: str) -> str:
    """Return the service that a `.container` file becomes."""
    return quadlet[: -len(".container")] + ".service"
