"""Looks at the files of a model: are they there, whole, small enough, and with what their server needs.

A swap must not start with a download, nor end an old model for a new one that cannot load: so this is asked before
anything is disturbed, and cheaply enough for a plan (names, sizes, and a few small JSON files; no weights are read).
Where the files lie in each layout of a cache is in `model_places`.

Must not: write, or download.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from .fact import why
from .machine import Machine
from .model_parts import models
from .model_places import WEIGHTS, Fault, Files, find, lost_parts, real, small_json
from .plain import clean

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
# A part of a model for images, which is a file of its own.
_BESIDE = "mmproj"
_CHATTY = ("ForCausalLM", "ForConditionalGeneration")


class _Case(NamedTuple):
    """One model while it is judged; `name` is for people."""

    machine: Machine
    check: Dict[str, Any]
    files: Files
    config: Dict[str, Any]
    name: str


def fault_of(machine: Machine, check: Dict[str, Any]) -> Optional[Fault]:
    """Return what is wrong with a model (`model.weights.ModelCheck`), None when it can be loaded as far as seen."""
    path = clean(check["path"])
    try:
        files = find(machine, check)
        if isinstance(files, Fault):
            return files
        config = small_json(machine, f"{files.place}/config.json") if "config.json" in files.sizes else {}
        case = _Case(machine, check, files, config, clean(check.get("hub") or check["path"]))
        return _is_not_whole(case) or _does_not_fit(case) or _lacks_a_template(case)
    except PermissionError as error:
        return Fault("REC7407", f"{path} cannot be read: {why(error)}", f"ls -ld {path}")
    except OSError as error:
        return Fault("REC7411", f"{path} cannot be looked at: {why(error)}", f"ls -l {path}")


def faults(machine: Machine, asked: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return `model.weights.ModelFault` for each of some units whose model cannot be loaded."""
    found = [(each["unit"], fault_of(machine, each["check"])) for each in asked]
    return [{"unit": unit, **fault._asdict()} for unit, fault in found if fault is not None]


def _is_not_whole(case: _Case) -> Optional[Fault]:
    named, _ = _index(case)
    lost = sorted(named - case.files.sizes.keys()) or _lost_parts(case, named)
    again = case.check.get("fetch") or f"copy the files of the model again: {clean(case.check['path'])}"
    if lost:
        return lost_parts(case.name, lost, again)
    # Only what says that it is a model of this kind: a server may read something else.
    if case.config.get("model_type") and not _weights(case):
        return Fault("REC7406", f"{case.name} has a configuration and no weights", again)
    return None


def _lost_parts(case: _Case, named: Set[str]) -> List[str]:
    """Return the parts that are not there of the split models of a directory.

    Of safetensors a server loads what an index names, and all without one. Of several GGUF files it takes one model: a
    part is missed only where none of them is whole.
    """
    names = sorted(_weights(case))
    lost: List[str] = []
    if not any(name.endswith(".safetensors") for name in named):
        lost = _not_there(case, [each for each in models(names) if each[0].endswith(".safetensors")])
    ggufs = [each for each in models(names) if each[0].endswith(".gguf") and not each[0].startswith(_BESIDE)]
    if any(not _not_there(case, [each]) for each in ggufs):
        return lost
    return lost + _not_there(case, ggufs[:1])


def _not_there(case: _Case, wanted: List[List[str]]) -> List[str]:
    return [name for each in wanted for name in each if name not in case.files.sizes]


def _does_not_fit(case: _Case) -> Optional[Fault]:
    most = case.check.get("memory", 0)
    # Servers load those in half the size.
    is_wide = "float32" in (case.config.get("torch_dtype"), case.config.get("dtype"))
    size = _index(case)[1] or _loaded(_weights(case))
    if not most or is_wide or size <= most:
        return None
    text = f"the weights of {case.name} are {size} bytes, the service declares memory for {most}"
    return Fault("REC7408", text, "raise 'memory:' of the service, or use a smaller model")


def _lacks_a_template(case: _Case) -> Optional[Fault]:
    if not case.check.get("chat"):
        return None
    given = case.check.get("template", "")
    if given == "-":
        return None  # inside the image, where nobody looks
    if given:
        text = f"the chat template of {case.name} is not on the host: {clean(given)}"
        return None if real(case.machine, given) else Fault("REC7409", text, f"copy it: {clean(given)}")
    sizes, architectures = case.files.sizes, case.config.get("architectures")
    names = [str(each) for each in architectures] if isinstance(architectures, list) else []
    if "tokenizer_config.json" not in sizes or (names and not any(each.endswith(_CHATTY) for each in names)):
        return None
    tokenizer = small_json(case.machine, f"{case.files.place}/tokenizer_config.json")
    if tokenizer.get("chat_template") or any(name in sizes for name in _TEMPLATES):
        return None
    text = f"{case.name} has no chat template: none in its tokenizer_config.json, and no chat_template.jinja beside it"
    return Fault("REC7409", text, "put chat_template.jinja beside it, or write 'chat: false' under 'model:'")


def _weights(case: _Case) -> Dict[str, int]:
    return {name: size for name, size in case.files.sizes.items() if name.endswith(WEIGHTS) or not name}


def _index(case: _Case) -> Tuple[Set[str], int]:
    """Return the files that the index of a split model names, and their size in memory as it says."""
    for name in _INDEXES:
        if name in case.files.sizes:
            document = small_json(case.machine, f"{case.files.place}/{name}")
            parts, about = document.get("weight_map"), document.get("metadata")
            total = about.get("total_size") if isinstance(about, dict) else None
            named = {str(part) for part in parts.values()} if isinstance(parts, dict) else set()
            return named, total if type(total) is int else 0
    return set(), 0


def _loaded(weights: Dict[str, int]) -> int:
    """Return the size of what is loaded: one format of those that lie there, and not both of two copies of it."""
    for ending in WEIGHTS:
        sizes = {name: size for name, size in weights.items() if name.endswith(ending) or not name}
        plain = {name: size for name, size in sizes.items() if not name.startswith("consolidated")} or sizes
        if not plain:
            continue
        # Several whole models in one directory: the server takes one, and the smallest is the one that surely fits.
        if ending == ".gguf":
            return min(sum(plain.get(name, 0) for name in each) for each in models(plain))
        return sum(plain.values())
    return 0
