"""Judges single values that reach units, command lines and the network: images, paths, addresses, keys, variables.

Every function returns what is wrong as `Finding(code, detail, fix)`, or None. Backslashes, `%`, `$`, `;` and quotes are
legal in values: the render floor encodes them.

Must not: know documents, positions or hosts.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import posixpath
import re
import zoneinfo
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler.load.codes import shown

MAX_PATH_PART_BYTES = 255
MAX_PATH_BYTES = 4095
# Mounting one of these, or a folder that holds one, hands over the host or its secrets, whatever the policy says.
NEVER_MOUNTED = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/lib/containers", "/var/lib/recon", "/var/run",
)  # fmt: skip
NEVER_COVERED = ("/dev", "/etc", "/proc", "/sys", "/usr")

_IMAGE = re.compile(
    r"(?P<domain>(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?)"
    r"/(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_SPLIT_BY_SYSTEMD = re.compile(r"[\s\"'\\]")
_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_TAG = re.compile(r":[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_OVERRIDES = ("LD_", "NVIDIA_")
_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}")
_KEY_TYPES = frozenset({"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"})


class Finding(NamedTuple):
    """What is wrong with a value."""

    code: str
    detail: str
    fix: str


def check_image(image: str, *, require_digest: bool) -> Finding | None:
    """Judge an image reference: full name, well formed, and pinned when the policy says so."""
    if len(image) > 512 or not (match := _IMAGE.fullmatch(image)):
        return Finding("REC2015", f"{shown(image)} is not registry/name@sha256:…", _image_hint(image))
    domain = match["domain"]
    if "." not in domain and ":" not in domain and domain != "localhost":
        detail = f"{shown(image)} has no registry: each host would complete the name in its own way"
        return Finding("REC2015", detail, f"write docker.io/{image[:80]} if that is the registry")
    if match["digest"]:
        return None
    if require_digest:
        detail = f"{shown(image)} names an image that can be another one tomorrow"
        return Finding("REC2014", detail, f"append '@sha256:…' as 'skopeo inspect docker://{image[:80]}' prints it")
    if not match["tag"]:
        return Finding("REC2014", f"{shown(image)} has neither tag nor digest", "append '@sha256:…' or ':tag'")
    return None


def _image_hint(image: str) -> str:
    if image.startswith(("http://", "https://", "docker://")):
        return f"leave out '{image.split('//', 1)[0]}//'"
    if image != image.lower() and "@sha256:" not in image:
        return "image names are lower case"
    if "@" in image:
        return "a digest is '@sha256:' and 64 hexadecimal digits"
    return "write for example registry.example.net/team/name@sha256:…"


def check_hub(hub: str, *, has_tags: bool = False) -> Finding | None:
    """Judge the name of a model on the hub; `org/name:tag` is for servers that choose a file by it."""
    if _HUB.fullmatch(_HUB_TAG.sub("", hub) if has_tags else hub):
        return None
    return Finding("REC2025", f"{shown(hub)} is not the name of a hub repository", "write org/name")


def check_path(path: str) -> Finding | None:
    """Judge an absolute path: no steps upward, nothing a file system could not hold."""
    if not path.startswith("/"):
        return Finding("REC3004", f"{shown(path)} is not absolute", f"write /{path[:80]}")
    if "\0" in path or len(path.encode()) > MAX_PATH_BYTES:
        return Finding("REC3004", "the path is too long or holds a NUL", "write a shorter path")
    parts = path.strip("/").split("/")
    if ".." in parts or "." in parts or ("" in parts and path != "/"):
        detail = f"{shown(path)} has '.', '..' or an empty part, so it is not where it says"
        return Finding("REC3004", detail, f"write {posixpath.normpath(path)[:120]}")
    if any(len(part.encode()) > MAX_PATH_PART_BYTES for part in parts):
        return Finding(
            "REC3004", f"a part of the path has more than {MAX_PATH_PART_BYTES} bytes", "write a shorter path"
        )
    return None


def check_host_folder(path: str, allowed: tuple[str, ...]) -> Finding | None:
    """Judge a path of the host that a container gets to see."""
    if finding := check_path(path):
        return finding
    if _SPLIT_BY_SYSTEMD.search(path):
        detail = f"{shown(path)} has white space, quotes or backslashes, which podman cannot pass on to systemd whole"
        return Finding("REC3004", detail, "rename it on the host, or bind-mount it under a plain name")
    plain = path.rstrip("/") or "/"
    if risky := _hands_over(plain):
        return Finding(
            "REC2017", f"{shown(path)} would open {risky} of the host to the container", _mount_hint(allowed)
        )
    if not any(_is_below(plain, folder) for folder in allowed):
        return Finding("REC2017", f"{shown(path)} is outside policy.allow_mounts", _mount_hint(allowed))
    return None


def check_allowed_folder(path: str) -> Finding | None:
    """Judge an entry of `policy.allow_mounts` itself."""
    if finding := check_path(path):
        return finding
    plain = path.rstrip("/") or "/"
    # `/var` may be allowed, for most of it is harmless; what is not is refused for each mount.
    if plain == "/" or any(_is_below(plain, folder) for folder in NEVER_MOUNTED):
        return Finding("REC2017", f"{shown(path)} must never be mounted", "name a folder for data, such as /srv")
    return None


def check_volume(volume: str, allowed: tuple[str, ...]) -> Finding | None:
    """Judge `/host/path:/container/path[:ro]`."""
    parts = volume.split(":")
    if len(parts) not in (2, 3) or not parts[0].startswith("/"):
        return Finding(
            "REC2017", f"{shown(volume)} is not a mount of a host path", "write /host/path:/container/path:ro"
        )
    if len(parts) == 3 and parts[2] != "ro":
        detail = f"{shown(parts[2])} is not an option here; only 'ro' is"
        return Finding("REC2017", detail, f"write {':'.join(parts[:2])[:120]} or the same with ':ro'")
    if finding := check_host_folder(parts[0], allowed) or check_path(parts[1]):
        return finding
    inside = parts[1].rstrip("/") or "/"
    if inside == "/" or any(_is_below(inside, folder) for folder in NEVER_COVERED):
        return Finding(
            "REC2017",
            f"a mount at {shown(inside)} would replace part of the system in the container",
            "use another place",
        )
    return None


def _hands_over(path: str) -> str | None:
    if path == "/":
        return "everything"
    return next((folder for folder in NEVER_MOUNTED if _is_below(path, folder) or _is_below(folder, path)), None)


def _is_below(path: str, folder: str) -> bool:
    plain = folder.rstrip("/")
    return path == plain or path.startswith(plain + "/")


def _mount_hint(allowed: tuple[str, ...]) -> str:
    places = ", ".join(allowed) or "no folder at all"
    return f"mount below {places}, or have policy.allow_mounts in fleet.yaml changed"


def check_env_name(name: str, allowed: tuple[str, ...]) -> Finding | None:
    """Judge the name of an environment variable; those that replace libraries or devices need the policy's word."""
    if not _ENV_NAME.fullmatch(name):
        return Finding("REC3009", f"{shown(name)} is not the name of a variable", "use letters, digits and '_'")
    if name.startswith(_ENV_OVERRIDES) and name not in allowed:
        detail = f"{name} can replace libraries or give other GPUs than those of the slot"
        return Finding("REC3009", detail, "remove it, or add it to policy.allow_env in fleet.yaml")
    return None


def check_address(address: str) -> Finding | None:
    """Judge an IP address or host name; it must mean one machine to everybody who reads it."""
    if _IPV4.fullmatch(address):
        return None
    said = shown(address)
    if not address.isascii():
        return Finding("REC3011", f"{said} holds letters that look like others", "write it in ASCII (xn--…)")
    if "%" in address and ":" in address:
        return Finding("REC3011", f"{said} has a zone, which is another one on every machine", "use a global address")
    if address.endswith(".") and len(address) > 1:
        return Finding("REC3011", f"{said} ends with a dot", f"write {address.rstrip('.')[:80]}")
    if ":" in address or re.fullmatch(r"[0-9.]+", address):
        return _check_ip(address)
    if len(address) <= 253 and _HOST_NAME.fullmatch(address):
        return None
    detail = f"{said} is not a host name: it is passed to ssh, so no '-' first, no spaces, no shell characters"
    return Finding("REC3010", detail, "write an IP address or a name such as spark-1.example.net")


def _check_ip(address: str) -> Finding | None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        fix = "write an address such as 192.0.2.11"
        if address.startswith("[") and address.endswith("]"):
            fix = f"leave out the brackets: {address[1:-1][:80]}"
        elif address.count(":") == 1:
            fix = "write the port as 'ssh: {port: …}'"
        return Finding("REC3010", f"{shown(address)} is not an IP address", fix)
    return None


def check_host_key(key: str) -> Finding | None:
    """Judge a pinned host key: a known type, and base64 that holds a key of that type."""
    words = key.split(" ")
    fix = "copy 'type base64' as 'ssh-keyscan' prints it, after comparing it with the host's console"
    if words[0] not in _KEY_TYPES:
        return Finding("REC2035", f"{shown(words[0])} is not a type of host key that recon accepts", fix)
    if len(words) < 2:
        return Finding("REC2035", "the key itself is missing after its type", fix)
    try:
        data = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return Finding("REC2035", f"{shown(words[1], 30)} is not base64", fix)
    kind = words[0].encode()
    if not data.startswith(len(kind).to_bytes(4, "big") + kind) or len(data) < len(kind) + 36:
        return Finding("REC2035", f"the base64 does not hold a whole {words[0]} key", fix)
    if kind == b"ssh-ed25519" and len(data) != 51:
        return Finding("REC2035", "an ssh-ed25519 key has 32 bytes", fix)
    return None


def check_health_url(url: str) -> Finding | None:
    """Judge the URL of a shared service: probed from the host, never with credentials, never a metadata service."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return Finding("REC2021", f"{shown(url)} is not a URL", "write http://127.0.0.1:6333/healthz")
    if not host or port == 0 or any(character.isspace() for character in url):
        return Finding("REC2021", f"{shown(url)} names no host", "write http://127.0.0.1:6333/healthz")
    if parts.username is not None or parts.password is not None:
        return Finding(
            "REC2021", "it holds a user or password, which everybody who reads git would see", "leave it out"
        )
    if check_address(host):
        return Finding("REC2021", f"{shown(host)} is not a host", "write an address such as 127.0.0.1")
    if _is_link_local(host):
        detail = f"{shown(host)} is link-local, where clouds answer with credentials"
        return Finding("REC2021", detail, "probe the service on 127.0.0.1")
    return None


def check_probe_url(url: str) -> Finding | None:
    """Judge the URL of a health probe: on an address, for a name may resolve to two machines, or to another one."""
    if finding := check_health_url(url):
        return finding
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        port = f":{parts.port}" if parts.port else ""
        address = "127.0.0.1" if host == "localhost" else "192.0.2.11"
        detail = f"{shown(host)} is a name: it may resolve to two machines, or to another one tomorrow"
        return Finding("REC2051", detail, f"write its address: {parts.scheme}://{address}{port}{parts.path[:60]}")
    return None


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


@lru_cache(maxsize=256)
def check_timezone(name: str) -> Finding | None:
    """Judge the name of a time zone."""
    if name == "UTC":
        return None
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    else:
        return None
    known = zoneinfo.available_timezones()
    if not known:  # a machine without time zone data cannot tell a right name from a wrong one
        detail = f"this machine has no time zone data, so {shown(name)} cannot be checked"
        return Finding("REC2028", detail, "install the package tzdata")
    from reconciler.load.explain import nearest

    meant = nearest(name, known)
    return Finding(
        "REC2028",
        f"{shown(name)} is not a time zone",
        f"did you mean '{meant}'?" if meant else "write for example Europe/Berlin",
    )
