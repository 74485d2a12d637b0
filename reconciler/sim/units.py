"""Which units systemd has loaded, and how they hang together.

A unit is read from disk when it is first needed and then kept as read: until the next daemon-reload, or until nothing
that runs refers to it. So a file may be newer than what is loaded, or gone.

Must not: start or stop anything.
"""

from __future__ import annotations

from collections import defaultdict

from reconciler.sim.faults import fault_of
from reconciler.sim.files import Files
from reconciler.sim.quadlet import OUTPUT, generate
from reconciler.sim.state import Node, SimState, UnitFile
from reconciler.sim.unitfile import BadUnitError, is_true, last, parse, words

TRANSIENT = "/run/systemd/transient"
"""Where systemd keeps the file of a unit that nobody wrote, for as long as it is loaded."""

SEARCH = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    TRANSIENT,
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    OUTPUT,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_RELATIONS = ("Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Conflicts", "After", "Before", "Upholds")
_LINKED = ("Wants", "Requires", "Upholds")
_BESIDE = (".d", ".wants", ".requires", ".upholds")
_VIRTUAL = (".slice", ".mount", ".device")

Edges = dict[str, dict[str, set[str]]]


class Units:
    """The loaded units of one host. `out[relation][unit]` and `into[relation][unit]` are the two ends of every edge."""

    def __init__(self, state: SimState, files: Files) -> None:
        self._state = state
        self._files = files
        self._edges: tuple[Edges, Edges] | None = None
        self._around: tuple[int, list[tuple[str, str]], dict[str, list[str]]] | None = None
        # What was not to be forgotten when last somebody looked, and what that depends on.
        self._kept: tuple[set[str], int] | None = None
        self._turn = 0
        # What each unit names, by relation and altogether, kept as long as it says the same.
        self._named: dict[str, tuple[UnitFile, dict[str, list[str]], set[str]]] = {}

    def get(self, name: str) -> UnitFile:
        """Return a unit as loaded; it and all it names are read from disk when they are not loaded yet."""
        unit = self._state.loaded.get(name)
        if unit is not None and unit.load != "not-found":
            return unit
        todo = [name]
        while todo:
            here = todo.pop()
            known = self._state.loaded.get(here)
            # What was not found is looked for again each time it is asked for; nothing hangs on it meanwhile.
            if known is not None and (known.load != "not-found" or here != name):
                continue
            read = self.read(here)
            if read != known:
                self._state.loaded[here] = read
                self._turn += 1
                self._edges = None
            todo += sorted({other for named in self._relations(read).values() for other in named})
        return self._state.loaded[name]

    def reload(self) -> tuple[str, ...]:
        """Run the generators and read every loaded unit again. Returns what the generator complained about."""
        complaints = self.run_generators()
        for name in sorted(self._state.loaded):
            self._state.loaded[name] = self.read(name)
        self._turn += 1
        self._edges = None
        self.forget_unused()
        for name in sorted(self._pinned()):
            self.get(name)
        return complaints

    def run_generators(self) -> tuple[str, ...]:
        """Replace what lies in the generator's directory by what Quadlet makes now."""
        self._files.drop_tree(OUTPUT)
        self._files.make_dirs(OUTPUT)
        if fault_of(self._state, "generator", "*") is not None:
            return ("failed with exit status 1",)
        made = generate(self._files)
        for unit, text in sorted(made.units.items()):
            self._files.put(f"{OUTPUT}/{unit}", Node.of(text.encode()))
        for target, kind, unit in made.links:
            self._files.make_dirs(f"{OUTPUT}/{target}.{kind}")
            self._files.put(f"{OUTPUT}/{target}.{kind}/{unit}", Node(kind="link", target=f"../{unit}"))
        return made.errors

    def forget_unused(self) -> None:
        """Unload every unit that neither runs, failed, has a job, nor is named by one that does."""
        busy = self._busy()
        if self._kept == (busy, self._turn):
            return  # nothing that runs, and no unit, is another one than when last somebody looked
        keep = self._pinned()
        for name in [name for name in self._state.loaded if name not in keep]:
            if self._state.loaded.pop(name).fragment == f"{TRANSIENT}/{name}":
                self._files.drop(f"{TRANSIENT}/{name}")
            self._state.runs.pop(name, None)
            self._turn += 1
            self._edges = None
        self._kept = (busy, self._turn)

    def add(self, name: str) -> None:
        """Load a unit from disk as it is now."""
        self._state.loaded[name] = self.read(name)
        self._turn += 1

    def forget(self, name: str) -> None:
        """Unload a unit; no error when it is not loaded."""
        self._state.loaded.pop(name, None)
        self._turn += 1

    def forget_all(self) -> None:
        """Unload every unit."""
        self._state.loaded.clear()
        self._turn += 1

    def needs_reload(self, name: str) -> bool:
        """Say whether the files behind a unit changed since it was loaded."""
        unit = self.get(name)
        if unit.load == "masked":
            return not self._is_mask(unit.fragment)
        pairs = ((unit.fragment, unit.fragment_mtime), (unit.source, unit.source_mtime))
        if any(path and self._mtime(path) != mtime for path, mtime in pairs):
            return True
        return unit.load == "loaded" and self._dropins(name) != unit.dropins

    def out(self, relation: str, name: str) -> set[str]:
        """Return the units that a unit names in a relation."""
        return self._graph()[0][relation].get(name, set())

    def into(self, relation: str, name: str) -> set[str]:
        """Return the loaded units that name this one in a relation."""
        return self._graph()[1][relation].get(name, set())

    def after(self, name: str) -> set[str]:
        """Return the units that this one is ordered after, whichever of the two says so."""
        return self.out("After", name) | self.into("Before", name)

    def before(self, name: str) -> set[str]:
        """Return the units that are ordered after this one."""
        return self.out("Before", name) | self.into("After", name)

    def _graph(self) -> tuple[Edges, Edges]:
        if self._edges is None:
            out: Edges = defaultdict(lambda: defaultdict(set))
            into: Edges = defaultdict(lambda: defaultdict(set))
            for name, unit in self._state.loaded.items():
                for relation, found in self._relations(unit).items():
                    named = [other for other in found if relation != "After" or not self._is_before(unit, other)]
                    out[relation][name].update(named)
                    for other in named:
                        into[relation][other].add(name)
            self._edges = (out, into)
        return self._edges

    def _is_before(self, unit: UnitFile, other: str) -> bool:
        """Say whether a target pulls in a unit that is ordered after it: then it does not wait for that one."""
        theirs = self._state.loaded.get(other)
        if theirs is None or not unit.name.endswith(".target") or other in words(unit.sections, "Unit", "After"):
            return False
        return unit.name in words(theirs.sections, "Unit", "After")

    def _busy(self) -> set[str]:
        return {
            *(name for name, run in self._state.runs.items() if run.active != "inactive"),
            *(job.unit for job in self._state.jobs),
        }

    def _pinned(self) -> set[str]:
        keep = self._busy()
        todo = list(keep)
        loaded = self._state.loaded
        while todo:
            unit = loaded.get(todo.pop())
            if unit is not None:
                self._relations(unit)
                more = self._named[unit.name][2] - keep
                keep |= more
                todo += more
        return keep

    def _relations(self, unit: UnitFile) -> dict[str, list[str]]:
        known = self._named.get(unit.name)
        if known is not None and known[0] is unit:
            return known[1]
        if known is not None and (known[0].sections, known[0].links) == (unit.sections, unit.links):
            known = self._named[unit.name] = (unit, *known[1:])
        else:
            found = {relation: relations(unit, relation) for relation in _RELATIONS}
            others = {other for named in found.values() for other in named}
            known = (unit, {relation: named for relation, named in found.items() if named}, others)
            self._named[unit.name] = known
        return known[1]

    def read(self, name: str) -> UnitFile:
        """Return a unit as it is on disk now."""
        places = self._look_around()[0]
        path = next((f"{place}/{name}" for place, real in places if self._files.has(real, name)), "")
        if not path:
            load = "loaded" if name.endswith(_VIRTUAL) else "not-found"
            return UnitFile(name=name, load="loaded" if load == "loaded" else "not-found", links=self._links(name))
        if self._is_mask(path):
            return UnitFile(name=name, load="masked", fragment=path, fragment_mtime=self._mtime(path))
        dropins = self._dropins(name)
        try:
            sections = parse(self._files.read(path).decode("utf-8", "replace"))
            for dropin in dropins:
                for section, settings in parse(self._files.read(dropin).decode("utf-8", "replace")).items():
                    sections.setdefault(section, []).extend(settings)
        except (BadUnitError, OSError):
            return UnitFile(name=name, load="bad-setting", fragment=path, fragment_mtime=self._mtime(path))
        source = last(sections, "Unit", "SourcePath")
        return UnitFile(
            name=name,
            load="loaded",
            fragment=path,
            fragment_mtime=self._mtime(path),
            source=source,
            source_mtime=self._mtime(source) if source else 0,
            dropins=dropins,
            sections=sections,
            links=self._links(name),
        )

    def _look_around(self) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
        """Return the places that are there, also without links, and by name the directories beside units in them.

        Kept while all directories and links stay.
        """
        if self._around is None or self._around[0] != self._files.shape:
            places = [place for place in SEARCH if self._files.stat(place) is not None]
            beside: dict[str, list[str]] = {}
            for place in places:
                for name in self._files.listdir(place):
                    node = self._files.stat(f"{place}/{name}") if name.endswith(_BESIDE) else None
                    if node is not None and node.kind == "dir":
                        beside.setdefault(name, []).append(f"{place}/{name}")
            self._around = (self._files.shape, [(place, self._files.resolve(place)) for place in places], beside)
        return self._around[1:]

    def _links(self, name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        beside = self._look_around()[1]
        for relation in _LINKED:
            units = {
                unit for place in beside.get(f"{name}.{relation.lower()}", ()) for unit in self._files.listdir(place)
            }
            if units:
                found[relation] = sorted(units)
        return found

    def _dropins(self, name: str) -> list[str]:
        found: dict[str, str] = {}
        for directory in reversed(self._look_around()[1].get(f"{name}.d", ())):
            found.update({n: f"{directory}/{n}" for n in self._files.listdir(directory) if n.endswith(".conf")})
        return [found[name] for name in sorted(found)]

    def _is_mask(self, path: str) -> bool:
        node = self._files.lstat(path)
        return node is not None and node.kind == "link" and node.target == "/dev/null"

    def _mtime(self, path: str) -> int:
        node = self._files.stat(path)
        return node.mtime if node is not None else -1


def relations(unit: UnitFile, relation: str) -> list[str]:
    """Return what a unit names in a relation: in its file, by links, and by the defaults systemd adds."""
    named = words(unit.sections, "Unit", relation) + unit.links.get(relation, [])
    has_defaults = is_true(last(unit.sections, "Unit", "DefaultDependencies", "yes"))
    if relation == "After" and unit.name.endswith(".target") and has_defaults:
        # A target is reached after what it pulls in, unless that is explicitly the other way round.
        pulled = [other for kind in ("Requires", "Wants", "BindsTo") for other in relations(unit, kind)]
        named += [other for other in pulled if other not in words(unit.sections, "Unit", "Before")]
    return named
