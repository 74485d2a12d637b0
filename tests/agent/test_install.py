from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.agent import places
from reconciler.agent.install import byte_code, install
from reconciler.agent.wire import RequestError
from reconciler.hosts.bundle import agent_bundle, pack
from reconciler.hosts.loader import SOURCE
from reconciler.sim.machine import SimMachine

FILES = {
    "recon_agent/__init__.py": "",
    "recon_agent/__main__.py": "import sys\n\n\ndef main() -> int:\n    print(sys.argv[1:])\n    return 3\n",
    "pynvml.py": "X = 'ü'\n",
}


def copy_out(machine: SimMachine, place: str, folder: Path) -> Path:
    """Write an installed agent from the simulated host into a real folder."""
    for path, node in machine.state.files.items():
        if path.startswith(place + "/") and node.kind == "file":
            target = folder / path[len(place) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(node.data)
    return folder


def test_what_is_installed_is_what_the_loader_accepts(tmp_path: Path) -> None:
    machine = SimMachine.new("h-1")
    bundle = agent_bundle()

    place = install(machine, bundle.digest, bundle.files)

    assert place == f"{places.AGENTS}/{bundle.digest}"
    loader: dict[str, object] = {}
    exec(SOURCE.partition("\ntry:\n    answer")[0].replace("signal.alarm(300)", "").partition("out = os")[0], loader)
    exec("def total" + SOURCE.partition("def total")[2].partition("class Memory")[0], loader)
    files = loader["read_installed"](str(copy_out(machine, place, tmp_path / bundle.digest)))  # type: ignore[operator]
    assert loader["total"](files) == bundle.digest  # type: ignore[operator]


def test_an_installed_agent_runs_from_its_directory_with_its_byte_code(tmp_path: Path) -> None:
    machine = SimMachine.new("h-1")
    digest = pack(FILES).digest
    folder = copy_out(machine, install(machine, digest, FILES), tmp_path)

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-v", str(folder), "execute", "t1"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (3, "['execute', 't1']\n")
    cached = importlib.util.cache_from_source(str(folder / "recon_agent" / "__main__.py"))
    assert (
        f"code object from '{cached}'" in done.stderr
        or f"matches {folder / 'recon_agent' / '__main__.py'}" in done.stderr
    )


def test_byte_code_is_believed_only_while_it_matches_the_source(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("print('new')\n", encoding="utf-8")
    cache = Path(importlib.util.cache_from_source(str(tmp_path / "m.py")))
    cache.parent.mkdir()
    cache.write_bytes(byte_code(b"print('old')\n", str(tmp_path / "m.py")))

    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import m"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout == "new\n"


def test_the_mark_of_completeness_is_written_last() -> None:
    machine = SimMachine.new("h-1")
    seen: list[str] = []
    machine.hook = lambda when, what: seen.append(what) if when == "before" else None

    install(machine, "d" * 64, FILES)

    assert seen[-1] == f"write {places.AGENTS}/{'d' * 64}/.ok"
    assert sum("write" in what for what in seen) == 2 * (len(FILES) + 1) + 1


def test_the_agents_of_the_last_three_versions_are_kept() -> None:
    machine = SimMachine.new("h-1")
    for letter in "abcd":
        install(machine, letter * 64, FILES)

    assert machine.listdir(places.AGENTS) == ["b" * 64, "c" * 64, "d" * 64]


def test_an_installed_agent_needs_no_bundle_and_a_missing_one_does() -> None:
    machine = SimMachine.new("h-1")

    with pytest.raises(RequestError, match="not installed"):
        install(machine, "d" * 64, None)
    install(machine, "d" * 64, FILES)
    assert install(machine, "d" * 64, None) == f"{places.AGENTS}/{'d' * 64}"
