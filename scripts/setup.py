"""Make `.venv` with everything of requirements.lock, by hash, and `recon` in it. Quick when nothing changed.

Runs on a bare Python 3.11 or later, without pip and without the distribution's venv package. Standard library only.
Must not: install outside `.venv`, use a version that is not locked.
"""

from __future__ import annotations

import configparser
import hashlib
import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urldefrag, urljoin

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".recon-setup"
LOCK = ROOT / "requirements.lock"

PIP_WHEEL = "pip-25.3-py3-none-any.whl"
PIP_SHA256 = "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd"
OLDEST = (3, 11)
CANDIDATES = ("python3.11", "python3.12", "python3.13", "python3.14")


def main() -> int:
    """Do nothing when the stamp says so; else make the environment and install what is locked."""
    if sys.version_info < OLDEST:
        return restart_with_newer()
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text(encoding="ascii") == wanted and (VENV / "bin" / "recon").is_file():
        return 0
    STAMP.unlink(missing_ok=True)
    pip = make_environment()
    say("installing what requirements.lock names, by hash")
    run([*pip, "install", "--quiet", "--require-hashes", "--requirement", str(LOCK)])
    run([*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    STAMP.write_text(wanted, encoding="ascii")
    say(f"ready: {VENV / 'bin' / 'recon'}")
    return 0


def restart_with_newer() -> int:
    """Go on with a newer interpreter of this computer, if it has one."""
    newer = next(filter(None, map(shutil.which, CANDIDATES)), None)
    if newer is None:
        say(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}. Set PYTHON=/path/to/python3.11")
        return 1
    return subprocess.run([newer, __file__]).returncode


def fingerprint() -> str:
    """Return what the environment depends on: the lock, the project file, the place and the interpreter."""
    total = hashlib.sha256()
    for part in (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()):
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def make_environment() -> list[str]:
    """Make `.venv` unless it works already; return the argv that runs a pip which installs into it."""
    if not works():
        say(f"making {VENV}")
        with_pip = importlib.util.find_spec("ensurepip") is not None
        run([sys.executable, "-m", "venv", "--clear", *([] if with_pip else ["--without-pip"]), str(VENV)])
    ways = (
        [str(PYTHON), "-m", "pip"],
        [sys.executable, "-m", "pip", "--python", str(PYTHON)],
    )
    for pip in ways:
        if subprocess.run([*pip, "--version"], capture_output=True).returncode == 0:
            return [*pip, "--disable-pip-version-check", "--no-input"]
    fetch_pip()
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]


def works() -> bool:
    """Say whether `.venv` has an interpreter that starts and is the one asked for."""
    if not PYTHON.exists():
        return False
    ask = [str(PYTHON), "-c", "import sys; print(sys.version)"]
    answer = subprocess.run(ask, capture_output=True, text=True)
    return answer.returncode == 0 and answer.stdout.strip() == sys.version.strip()


def fetch_pip() -> None:
    """Get the pinned pip wheel from the configured index, check its hash, and let it install itself."""
    say(f"this Python has no pip; fetching {PIP_WHEEL}")
    with tempfile.TemporaryDirectory() as directory:
        wheel = Path(directory) / PIP_WHEEL
        wheel.write_bytes(download_pip())
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != PIP_SHA256:
            raise SystemExit(f"setup: {PIP_WHEEL} has SHA-256 {found}, expected {PIP_SHA256}: refused")
        run([str(PYTHON), str(wheel / "pip"), "install", "--quiet", "--no-index", "--no-deps", str(wheel)])


def download_pip() -> bytes:
    """Return the wheel from the first index that has it."""
    problems = []
    for index in indexes():
        try:
            page_url = index.rstrip("/") + "/pip/"
            page = read(page_url).decode("utf-8", "replace")
            links = (urldefrag(html.unescape(link)).url for link in re.findall(r'href="([^"]+)"', page))
            link = next((link for link in links if link.rpartition("/")[2] == PIP_WHEEL), None)
            if link:
                return read(urljoin(page_url, link))
            problems.append(f"{index} does not list it")
        except OSError as problem:
            problems.append(f"{index}: {problem}")
    advice = "install python3-venv or python3-pip, or set PIP_INDEX_URL to an index this computer reaches"
    raise SystemExit(f"setup: cannot get {PIP_WHEEL} ({'; '.join(problems)}): {advice}")


def indexes() -> list[str]:
    """Return the package indexes this computer is configured for, as pip would read them."""
    config = configparser.ConfigParser(interpolation=None)
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    config.read(["/etc/pip.conf", home / "pip" / "pip.conf", os.environ.get("PIP_CONFIG_FILE", "")], encoding="utf-8")
    first = os.environ.get("PIP_INDEX_URL") or config.get("global", "index-url", fallback="")
    more = os.environ.get("PIP_EXTRA_INDEX_URL") or config.get("global", "extra-index-url", fallback="")
    return [first or "https://pypi.org/simple", *(more or "").split()]


def read(url: str) -> bytes:
    """Return what is at a URL; only the kinds an index can have."""
    if not url.startswith(("https://", "http://", "file://")):
        raise OSError(f"{url} is not a web or file address")
    with urllib.request.urlopen(url, timeout=60) as answer:
        data: bytes = answer.read()
        return data


def run(argv: list[str]) -> None:
    """Run a step, its output shown; end with what failed when it does."""
    if subprocess.run(argv).returncode != 0:
        raise SystemExit(f"setup: failed: {' '.join(argv)}")


def say(text: str) -> None:
    """Say what happens on stderr."""
    sys.stderr.write(f"setup: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
