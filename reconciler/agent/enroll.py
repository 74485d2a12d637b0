"""Makes a host recon's: the agent installed, and, when asked for, an account with one key and one sudoers rule.

Everything that could refuse is looked at before anything is changed, every change is atomic by itself, and the answer
says what was done also when a later part failed. Asked again, it finds everything there and does nothing.

| part | how it stays whole |
|---|---|
| agent | content-addressed; without its mark it is never run |
| account | `useradd`; one that is there is left as it is |
| key | written as that user, beside the file and renamed over it; other keys stay |
| sudoers rule | checked by `visudo -c` in /run first, then renamed into place |

Must not: change an account or rule that somebody else made, start or stop a unit, or write a person's file as root.
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional

from . import install, places
from .machine import Machine
from .plain import clean
from .wire import RequestError

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,4000}={0,3} [a-z0-9./ -]{1,80}\Z"
)
_TIMEOUT_S = 60.0
_NO_LOGIN = ("nologin", "false")
_SUDOERS = "/etc/sudoers.d"
_HEAD = "# Written by recon enroll: recon's agent runs as root through this one rule.\n"
_TOOLS = ("getent", "useradd", "runuser", "visudo", "sudo")
_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")

# Runs as the account itself, so that a link in its home leads nowhere that it could not go anyway.
ADD_KEY = """\
import os, pwd, sys
line = sys.stdin.read().strip()
place = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh")
os.makedirs(place, 0o700, exist_ok=True)
path = os.path.join(place, "authorized_keys")
try:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
except FileNotFoundError:
    text = ""
kind, blob = line.split()[:2]
if any((kind, blob) in zip(words, words[1:]) for words in map(str.split, text.split("\\n"))):
    sys.exit(print("kept"))
beside = path + ".recon"
with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w",
          encoding="utf-8", errors="surrogateescape") as file:
    file.write(text + ("\\n" if text and not text.endswith("\\n") else "") + line + "\\n")
    file.flush()
    os.fsync(file.fileno())
os.replace(beside, path)
print("added")
"""


class _Account(NamedTuple):
    uid: int
    home: str
    shell: str


def enroll(machine: Machine, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Do it, or with `check` only say what would be done.

    Args:
        machine: the host.
        args: `user` and `key` (a line of authorized_keys) for an account, both None without one; `check`.
        ctx: the agent that runs and is to be installed.

    Returns:
        `done` and `kept` (what was there) in words, and `problem` with the four texts when it ended early.
    """
    user, key = _asked(args)
    has_agent = ctx["mode"] == "installed"
    account = _look(machine, user) if user else None
    rule_is_there = _rule_is_there(machine, user) if user else False
    if args.get("check") is True:
        return _would(ctx, user, account, has_agent=has_agent, rule_is_there=rule_is_there)
    done: List[str] = []
    kept: List[str] = []
    try:
        _agent(machine, ctx, done, kept)
        if user and key:
            _account(machine, user, account, done, kept)
            _key(machine, user, key, done, kept)
            _rule(machine, user, done, kept, is_there=rule_is_there)
    except RequestError as error:
        texts = {"code": error.code, "summary": error.summary, "detail": error.detail, "fix": error.fix}
        return {"done": done, "kept": kept, "problem": texts}
    except OSError as error:
        detail = clean(f"{error.filename or ''}: {error.strerror or error}")
        texts = {"code": "REC7426", "summary": "the host could not be enrolled", "detail": detail, "fix": ""}
        return {"done": done, "kept": kept, "problem": texts}
    return {"done": done, "kept": kept, "problem": None}


def sudoers_path(user: str) -> str:
    """Return where the rule of a user lies; names with a dot would be skipped by sudo, so a user has none."""
    return f"{_SUDOERS}/recon" if user == "recon" else f"{_SUDOERS}/recon-{user}"


def rule_of(user: str) -> str:
    """Return the one rule. The agent's program comes on stdin, so a narrower command line would promise nothing."""
    return f"{user} ALL=(root) NOPASSWD: /usr/bin/python3"


def _asked(args: Dict[str, Any]) -> "tuple[Optional[str], Optional[str]]":
    user, key = args.get("user"), args.get("key")
    if user is None and key is None:
        return None, None
    if not isinstance(user, str) or not _USER.match(user) or user == "root":
        raise _refused("REC7424", "no account can be made for that user", ascii(str(user)[:40]), "--user recon")
    if not isinstance(key, str) or not _KEY.match(key):
        raise _refused("REC7424", "that is no line of a public key", ascii(str(key)[:60]), "--key FILE")
    return user, key


def _refused(code: str, summary: str, detail: str, fix: str) -> RequestError:
    return RequestError(code, summary, detail, fix)


def _look(machine: Machine, user: str) -> Optional[_Account]:
    """Return the account when it is there; refuse when something that is needed is missing, or it cannot log in."""
    missing = [tool for tool in _TOOLS if all(machine.stat(f"{place}/{tool}") is None for place in _DIRECTORIES)]
    if missing:
        fix = "install them (packages sudo, passwd, util-linux), then type the same command again"
        raise _refused("REC7424", "the host lacks what makes an account", ", ".join(missing), fix)
    found = machine.run(["getent", "passwd", user], _TIMEOUT_S)
    if found.rc == 2:
        return None
    fields = found.out.decode("utf-8", "backslashreplace").strip().split(":")
    if found.rc != 0 or len(fields) < 7 or fields[0] != user or not fields[2].isdigit():
        raise _refused("REC7426", "the host could not be enrolled", f"getent passwd {user}: {clean(found.err)}", "")
    account = _Account(int(fields[2]), fields[5], fields[6])
    if account.uid == 0:
        raise _refused(
            "REC7424", "no account can be made for that user", f"{user} is root by another name", "--user recon"
        )
    if account.shell.rpartition("/")[2] in _NO_LOGIN:
        detail = f"{user} is there with the shell {clean(account.shell)}"
        raise _refused(
            "REC7424", "the account cannot log in", detail, f"usermod --shell /bin/sh {user}, or another --user"
        )
    return account


def _rule_is_there(machine: Machine, user: str) -> bool:
    """Say whether our rule is in its file; a file with another content is somebody's, and is not replaced."""
    path = sudoers_path(user)
    found = machine.stat(path)
    if found is None:
        return False
    text = machine.read(path).decode("utf-8", "backslashreplace") if found.kind == "file" else ""
    lines = [" ".join(line.split()) for line in text.split("\n") if line.strip() and not line.startswith("#")]
    if lines == [rule_of(user)]:
        return True
    detail = f"{path} says {clean('; '.join(lines)) or 'nothing'}, and recon would write {rule_of(user)}"
    raise _refused("REC7425", "a sudoers file of that name says something else", detail, f"look at it, then: rm {path}")


def _would(
    ctx: Dict[str, Any], user: Optional[str], account: Optional[_Account], *, has_agent: bool, rule_is_there: bool
) -> Dict[str, Any]:
    parts = {f"the agent {ctx['digest'][:12]}": has_agent}
    if user:
        parts[f"the account {user}"] = account is not None
        parts[f"the key of this computer for {user}, unless it is there"] = False
        parts[f"{sudoers_path(user)}: {rule_of(user)}"] = rule_is_there
    done = [part for part, is_there in parts.items() if not is_there]
    return {"done": done, "kept": [part for part, is_there in parts.items() if is_there], "problem": None}


def _agent(machine: Machine, ctx: Dict[str, Any], done: List[str], kept: List[str]) -> None:
    bundle = {} if ctx["mode"] == "simulated" and ctx.get("bundle") is None else ctx.get("bundle")
    place = install.install(machine, ctx["digest"], bundle)
    if machine.stat(places.CURRENT_AGENT) is None:
        # One that is there is what the host's watchdog runs; the next apply changes it.
        install.make_current(machine, place)
    (kept if ctx["mode"] == "installed" else done).append(f"the agent {ctx['digest'][:12]}")


def _account(machine: Machine, user: str, account: Optional[_Account], done: List[str], kept: List[str]) -> None:
    if account is not None:
        kept.append(f"the account {user}")
        return
    # A password that nothing matches: `!` would count as locked for an sshd without PAM.
    words = ["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "--comment", "recon", user]
    made = machine.run(words, _TIMEOUT_S)
    if made.rc != 0:
        raise _refused("REC7426", "the host could not be enrolled", f"useradd: {clean(made.err)}", "")
    done.append(f"the account {user}")


def _key(machine: Machine, user: str, key: str, done: List[str], kept: List[str]) -> None:
    words = ["runuser", "-u", user, "--", "/usr/bin/python3", "-I", "-S", "-c", ADD_KEY]
    added = machine.run(words, _TIMEOUT_S, stdin=key.encode())
    if added.rc != 0:
        raise _refused("REC7426", "the host could not be enrolled", f"the key of {user}: {clean(added.err[-300:])}", "")
    (done if added.out.strip() == b"added" else kept).append(f"the key of this computer for {user}")


def _rule(machine: Machine, user: str, done: List[str], kept: List[str], *, is_there: bool) -> None:
    path = sudoers_path(user)
    part = f"{path}: {rule_of(user)}"
    if is_there:
        kept.append(part)
        return
    data = (_HEAD + rule_of(user) + "\n").encode()
    trial = f"{places.RUN}/sudoers-{user}"
    machine.mkdir(places.RUN)
    machine.write(trial, data, 0o440)
    try:
        checked = machine.run(["visudo", "-c", "-q", "-f", trial], _TIMEOUT_S)
    finally:
        machine.remove(trial)
    if checked.rc != 0:
        detail = f"visudo: {clean(checked.err or checked.out)}"
        raise _refused("REC7426", "the host's visudo does not take the rule", detail, "visudo -c")
    machine.write(path, data, 0o440)
    done.append(part)
