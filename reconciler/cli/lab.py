"""`recon lab`: disposable real hosts on this computer.

Must not: hold logic of its own; the lab package does the work, imported by the commands that use it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Boot disposable real hosts on this computer (systemd, sshd, podman, a GPU stand-in), with a state repository "
    "that reaches them.\n\nNeeds root and Debian 12.\n\nExample:\n\n"
    "  recon lab up --hosts 2 --dir /tmp/try\n\n  cd /tmp/try; recon plan; recon apply\n\n"
    "  recon lab ssh lab-1 -- systemctl list-units 'recon-*'\n\n  recon lab down --dir /tmp/try",
)

Directory = Annotated[Path, typer.Option("--dir", help="The state repository the lab belongs to.", show_default="here")]
HERE = Path()


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- progress goes to stderr as it happens; results to stdout


def _result(text: str) -> None:
    print(text)  # noqa: T201 -- the lab's results are lines for a person or a script, no view model stands behind them


@app.command()
def up(
    hosts: Annotated[int, typer.Option(help="How many hosts.", min=1, max=60)] = 2,
    directory: Directory = HERE,
    gpu: Annotated[Literal["h200", "gb10", "gh200"], typer.Option(help="What their GPUs pretend to be.")] = "h200",
    gpus: Annotated[int, typer.Option(help="GPUs per host.", min=1, max=8)] = 1,
) -> None:
    """Boot hosts and write a state repository in DIR that reaches them.

    Example: recon lab up --hosts 2 --dir /tmp/try
    """
    from reconciler.lab import labs, scaffold

    directory.mkdir(parents=True, exist_ok=True)
    with labs.interruptible():
        lab = labs.up(directory, hosts=hosts, gpu=gpu, gpus_per_host=gpus, progress=_progress)
        try:
            scaffold.write(lab)
            lab.release()
        except BaseException:
            lab.down()
            raise
    for host in lab.record.hosts:
        _result(f"{host.name}  {host.address}")
    _progress(f"next: cd {lab.directory} && recon plan; afterwards: recon lab down --dir {lab.directory}")


@app.command()
def down(directory: Directory = HERE) -> None:
    """Remove the hosts of DIR; its files stay. Doing it twice is no error.

    Example: recon lab down --dir /tmp/try
    """
    from reconciler.lab import labs

    _result("down" if labs.down(directory) else "no lab is running for this directory")


@app.command()
def gc() -> None:
    """Remove what crashed runs left: labs whose process died, or whose directory is gone.

    Example: recon lab gc
    """
    from reconciler.lab import labs

    _result(f"removed {labs.gc(_progress)}")


@app.command()
def status(
    output: Annotated[Literal["text", "json"], typer.Option(help="For people or for programs.")] = "text",
) -> None:
    """List every lab on this computer and its hosts.

    Example: recon lab status --output json
    """
    from reconciler.lab import labs

    listing = labs.listing()
    if output == "json":
        _result(json.dumps({"version": 1, "labs": listing}, indent=2))
        return
    for lab in listing:
        kept = "abandoned" if lab["abandoned"] else "kept by a process" if lab["owner"] else "kept by its directory"
        _result(f"{lab['id']}  {lab['directory']}  {lab['gpu']}  {kept}")
        for host in lab["hosts"]:
            _result(f"  {host['name']}  {host['address']}  {'running' if host['running'] else 'off'}")
    if not listing:
        _result("no lab is running on this computer")


@app.command()
def ssh(
    host: Annotated[str, typer.Argument(help="A host of the lab, for example lab-1.")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run there; a login shell when absent.")] = None,
    directory: Directory = HERE,
    user: Annotated[str, typer.Option(help="`recon` has sudo; `root` is root.")] = "root",
) -> None:
    """Open SSH to a lab host with its key pinned, and end with the command's exit code.

    Example: recon lab ssh --dir /tmp/try lab-1 -- podman ps
    """
    import os

    from reconciler.lab import labs

    argv = labs.open_lab(directory).ssh_argv(host, tuple(command or ()), user=user)
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 -- becomes ssh, so that terminals, signals and exit codes are its own


if __name__ == "__main__":
    app()
