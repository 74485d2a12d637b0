"""`recon sim`: make simulated hosts do what real ones do: answer requests, break, be touched by hand."""

from __future__ import annotations

import typer

app = typer.Typer(help="Simulated hosts: requests, faults and hands.", no_args_is_help=True, rich_markup_mode=None)
