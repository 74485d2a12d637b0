"""Which of the images a plan needs are on the host, read from podman's own storage without starting podman.

Must not: say that an image is missing because a store could not be read.
"""

import json
import re
from typing import Any, Dict, List, Sequence, Tuple

from .machine import Machine

_CONFIGS = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_ROOT = "/var/lib/containers/storage"
_LIMIT = 64 << 20
_GRAPHROOT = re.compile(r"^\s*graphroot\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_STORES = re.compile(r"^\s*additionalimagestores\s*=\s*\[([^\]]*)\]", re.MULTILINE)
_QUOTED = re.compile(r"[\"']([^\"']+)[\"']")


def present(machine: Machine, refs: Sequence[str]) -> List[str]:
    """Return those of the images that are there, sorted; OSError or ValueError when a store cannot be read."""
    names, digests = _known(machine)
    return sorted(ref for ref in set(refs) if _is_there(ref, names, digests))


def _is_there(ref: str, names: Dict[str, bool], digests: Dict[str, List[str]]) -> bool:
    """By name and digest the repository must match too, as it does for podman."""
    if ref in names:
        return True
    name, at, digest = ref.partition("@")
    return bool(at) and _repository(name) in digests.get(digest, [])


def _repository(name: str) -> str:
    """Return a name without tag and digest; a colon before the last slash is a port."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _known(machine: Machine) -> Tuple[Dict[str, bool], Dict[str, List[str]]]:
    names: Dict[str, bool] = {}
    digests: Dict[str, List[str]] = {}
    for store in stores(machine):
        for image in _images(machine, store):
            tags = [str(name) for name in image.get("names") or []]
            names.update(dict.fromkeys(tags, True))
            for digest in _digests(image):
                digests.setdefault(digest, []).extend(_repository(tag) for tag in tags)
    return names, digests


def _digests(image: Dict[str, Any]) -> List[str]:
    """Return the digests of an image: of its manifest, and of the list that it was picked from."""
    big = image.get("big-data-digests") or {}
    found = [str(digest) for key, digest in big.items() if str(key).startswith("manifest")]
    return found + ([str(image["digest"])] if image.get("digest") else [])


def stores(machine: Machine) -> List[str]:
    """Return where images lie: the store that is written to first, then those that are only read."""
    text = ""
    for path in _CONFIGS:
        try:
            text = machine.read(path).decode("utf-8", "backslashreplace")
            break
        except FileNotFoundError:
            continue
    root = _GRAPHROOT.search(text)
    more = _STORES.search(text)
    return [root[1] if root else _ROOT, *(_QUOTED.findall(more[1]) if more else [])]


def _images(machine: Machine, store: str) -> List[Dict[str, Any]]:
    """Return the images of one store; a store that was never made has none."""
    found: List[Dict[str, Any]] = []
    try:
        directories = [name for name in machine.listdir(store) if name.endswith("-images")]
    except FileNotFoundError:
        return []
    for name in directories:
        try:
            data = machine.read(f"{store}/{name}/images.json", _LIMIT)
        except FileNotFoundError:
            continue
        images = json.loads(data.decode("utf-8"))
        if not isinstance(images, list):
            raise ValueError(f"{store}/{name}/images.json is not understood")
        found += images
    return found
