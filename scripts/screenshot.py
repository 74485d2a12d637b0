"""Makes docs/images/plan.svg: what `recon plan` really prints for a switch on a simulated host.

    .venv/bin/python scripts/screenshot.py

Must not: write the picture by hand; every character comes from the command.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

RECON = Path(sys.executable).with_name("recon")
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "plan.svg"


def recon(studio: Path, *argv: str) -> str:
    """Run recon and return what it printed; a failure ends the script with its words."""
    done = subprocess.run([str(RECON), *argv], cwd=studio, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"recon {' '.join(argv)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def plan_of_a_switch(studio: Path) -> str:
    """Return a coloured plan: spark-1 runs reasoning, and its file says vision."""
    recon(studio.parent, "init", studio.name, "--sim")
    recon(studio, "apply", "--yes")
    file = studio / "desired" / "hosts" / "spark-1.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("coven: reasoning", "coven: vision"), encoding="utf-8")
    return recon(studio, "--color", "always", "plan")


def picture_of(output: str) -> str:
    """Return an SVG of a terminal in which the command was typed."""
    shown = Text.from_ansi(f"$ recon plan\n{output}".rstrip("\n"))
    console = Console(
        record=True, width=max(line.cell_len for line in shown.split()) + 1, file=io.StringIO(), force_terminal=True
    )
    console.print(shown, soft_wrap=True)
    svg = console.export_svg(title="recon plan", theme=MONOKAI, unique_id="plan")
    # Fonts from the network are never loaded inside an image tag; the reader's own monospace font is.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    """Make the picture and say where it is."""
    with tempfile.TemporaryDirectory(prefix="recon-screenshot-") as scratch:
        svg = picture_of(plan_of_a_switch(Path(scratch) / "studio"))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
