"""Runs the installed agent's executor with a fault at one exact change; lies on lab hosts while a fault test uses it.

The product has nothing of this: a wrapper that the test puts in place of the host's python3 hands the executor's command
line to this program, and everything else to the real interpreter. `/run/lab/failpoint.json` says where and what:

    {"at": REGEX, "when": "before" | "after", "nth": N, "do": WORD, ...}

A change is named as the simulator names it: `write PATH`, `symlink PATH`, `run systemctl start …`, and for a line of the
journal `append PATH step=S status=T`. Before all of them comes `begin`. Words:

    kill          SIGKILL to itself
    stop          SIGSTOP to itself; who waits for `/run/lab/fired` decides how it goes on
    fail          the change fails with `errno`; a program ends with 1
    call          `argv` is run there, and its end awaited
    clock         the wall clock is `seconds` off from there on

Each fires once; `then` is another of the same form, armed beside the first. What was named is told in
`/run/lab/changes`.

Standard library only. Must not: change what the executor does where no fault is asked for.
"""

import json
import os
import re
import signal
import subprocess
import sys

PLACE = "/run/lab"
CHANGES = ("mkdir", "write", "append", "symlink", "rename", "remove", "remove_tree")
ONLY_LOOKS = ("show", "is-active", "exists", "--dryrun", "-dryrun", "verify", "--version", "version")


class Point:
    """The one fault of this run."""

    def __init__(self, spec):
        self.spec = spec
        self.left = spec.get("nth", 1)
        self.offset = 0.0

    def reached(self, when, name):
        """Say whether this is the change at which the fault fires."""
        if self.left <= 0 or when != self.spec.get("when", "before") or not re.search(self.spec["at"], name):
            return False
        self.left -= 1
        return self.left == 0

    def fire(self, name):
        """Do it; return what a failing program answers, or None."""
        note("fired", name)
        do = self.spec["do"]
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif do == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif do == "call":
            done = subprocess.run(self.spec["argv"], capture_output=True, check=False, timeout=120)
            note("called", "%d %s" % (done.returncode, done.stderr.decode("utf-8", "replace")))
        elif do == "clock":
            self.offset = float(self.spec["seconds"])
        elif do == "fail":
            number = int(self.spec.get("errno", 28))
            raise OSError(number, os.strerror(number), name.split(" ")[1])


def note(name, text):
    with open(PLACE + "/" + name + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(PLACE + "/" + name + ".new", PLACE + "/" + name)


def named(method, args):
    """Return the name of a change."""
    name = "%s %s" % (method, args[1] if method == "symlink" else args[0])
    if method == "append" and args[0].endswith("journal.jsonl"):
        line = args[1].decode("utf-8", "replace")
        found = [re.search('"%s":"([a-z_]+)"' % key, line) for key in ("step", "status")]
        if all(found):
            name += " step=%s status=%s" % (found[0][1], found[1][1])
    return name


class Points:
    """The faults of this run."""

    def __init__(self, spec):
        self.points = [Point(each) for each in (spec, spec.get("then")) if each]

    @property
    def offset(self):
        return sum(point.offset for point in self.points)

    def strike(self, when, name):
        """Let every fault fire whose change this is."""
        for point in self.points:
            if point.reached(when, name):
                point.fire(name)


def wrapped(machine, point, completed):
    """Return the machine with the faults in its calls."""
    trace = open(PLACE + "/changes", "a", encoding="utf-8")

    def tell(name):
        trace.write(name + "\n")
        trace.flush()

    def changing(method, call):
        def run(*args, **kwargs):
            name = named(method, args)
            tell(name)
            point.strike("before", name)
            done = call(*args, **kwargs)
            point.strike("after", name)
            return done

        return run

    def running(call):
        def run(argv, *args, **kwargs):
            words = [str(word) for word in argv]
            if any(word in ONLY_LOOKS for word in words):
                return call(argv, *args, **kwargs)
            name = "run " + " ".join(words)
            tell(name)
            try:
                point.strike("before", name)
            except OSError as error:
                return completed(1, b"", str(error).encode())
            done = call(argv, *args, **kwargs)
            point.strike("after", name)
            return done

        return run

    for method in CHANGES:
        setattr(machine, method, changing(method, getattr(machine, method)))
    machine.run = running(machine.run)
    wall = machine.wall
    machine.wall = lambda: wall() + point.offset
    return machine


def main(argv):
    place, words = argv[2], argv[3:]
    with open(PLACE + "/failpoint.json", encoding="utf-8") as stream:
        point = Points(json.load(stream))
    os.rename(PLACE + "/failpoint.json", PLACE + "/failpoint.used")
    sys.path.insert(0, place)
    sys.argv = [place + "/__main__.py", *words]
    from recon_agent import __main__ as program
    from recon_agent import machine as seam
    from recon_agent import real

    class Faulty(real.RealMachine):
        def __init__(self):
            super().__init__()
            wrapped(self, point, seam.Completed)

    program.RealMachine = Faulty
    point.strike("before", "begin")
    sys.exit(program.main(words))


if __name__ == "__main__":
    main(sys.argv[1:])
