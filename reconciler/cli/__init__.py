"""One file per command: parse, workflow, view, exit code. Must not: hold logic of its own."""
