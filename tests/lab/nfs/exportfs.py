#!/usr/bin/python3
"""Stand-in of the lab for exportfs(8), for the words that recon says. As version 2.6.2 was seen to answer:

-o OPTIONS CLIENT:DIR   adds a line to the table; 1 when the directory is not there, and the line stays
-u CLIENT:DIR           takes it out; 1 and "Could not find" when it is not there
-r, -au                 empties the table, for /etc/exports is empty here
always 1                when /etc/exports cannot be read, and what was asked is done all the same
"""

import fcntl
import os
import re
import sys
from collections.abc import Callable

TABLE = "/var/lib/nfs/etab"


def split(word: str) -> tuple[str, str]:
    """Part `CLIENT:DIR`; an address of IPv6 stands in brackets."""
    found = re.fullmatch(r"\[([^\]]+)\]:(/.*)|([^:]+):(/.*)", word)
    if not found:
        sys.exit(f"exportfs: Invalid export syntax: {word}")
    return (found[1] or found[3], found[2] or found[4])


def change(edit: Callable[[list[str]], list[str]]) -> None:
    with open(TABLE, "a+") as table:
        fcntl.flock(table, fcntl.LOCK_EX)
        table.seek(0)
        lines = edit(table.read().splitlines())
        table.seek(0)
        table.truncate()
        table.write("".join(line + "\n" for line in lines))


def main(words: list[str]) -> int:
    status = 0
    if not os.path.exists("/etc/exports"):
        print("exportfs: can't open /etc/exports for reading", file=sys.stderr)
        status = 1
    if words[:1] == ["-o"] and len(words) == 3:
        client, directory = split(words[2])
        begin = f"{directory}\t{client}("
        change(lambda lines: [line for line in lines if not line.startswith(begin)] + [f"{begin}{words[1]})"])
        if not os.path.isdir(directory):
            print(f"exportfs: Failed to stat {directory}: No such file or directory", file=sys.stderr)
            status = 1
    elif words[:1] == ["-u"] and len(words) == 2:
        client, directory = split(words[1])
        begin, found = f"{directory}\t{client}(", False
        with open(TABLE) as table:
            found = any(line.startswith(begin) for line in table)
        change(lambda lines: [line for line in lines if not line.startswith(begin)])
        if not found:
            print(f"exportfs: Could not find '{words[1]}' to unexport.", file=sys.stderr)
            status = 1
    elif words in (["-r"], ["-ra"], ["-au"]):
        change(lambda lines: [])
    else:
        sys.exit(f"exportfs: the stand-in does not know {words}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
