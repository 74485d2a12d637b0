"""The units of a share: what a hub exports the root of the spiral by, and what a worker mounts it by.

    hub       recon-share-<share>-<worker>.service   one for each worker, so that one can go and the others stay
    worker    recon-share-<share>.target             what is started and stopped; the mount hangs on it
              <root, escaped>.mount                  the one unit that systemd names: after the path of the mount

The loops of a worker hang on the target, and ask for the marker each time before they start: by a program of their
own, for a condition of systemd's is looked at by its first process, which must never wait for a file server.

Must not: know what a worker runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reconciler.model.desired import Fleet, Host
from reconciler.model.intent_spiral import ShareSpec
from reconciler.model.rendered import RenderedFile
from reconciler.model.share import MARKER, HostShare
from reconciler.model.spiral import SpiralFile
from reconciler.render import encode
from reconciler.render.defaults import SHARE_MOUNT, SHARE_SERVICE, SHARE_TARGET
from reconciler.render.units import native_file

EXPORTFS = "/usr/sbin/exportfs"
MOUNT_OPTIONS = ("rw", "hard", "proto=tcp", "timeo=600", "retrans=2", "nosuid", "nodev", "_netdev")
"""What every mount has. Hard: a job that a worker claimed is not lost by a moment without the hub."""
EXPORT_OPTIONS = ("rw", "sync", "no_subtree_check")
_SQUASH = {"root": "root_squash", "all": "all_squash", "none": "no_root_squash"}
_FIELD = "workloads/spiral.shares"
_PLAIN = re.compile(rb"[A-Za-z0-9:_.]")

Keys = tuple[tuple[str, str], ...]


def mount_name(path: str) -> str:
    """Return the name that systemd has for the mount at a path: `/srv/spiral` is `srv-spiral.mount`."""
    escaped = ""
    for place, byte in enumerate(path.strip("/").encode()):
        char = bytes((byte,))
        if char == b"/":
            escaped += "-"
        elif _PLAIN.fullmatch(char) and not (char == b"." and place == 0):
            escaped += char.decode()
        else:
            escaped += f"\\x{byte:02x}"
    return f"{escaped}.mount"


def target_name(share: str) -> str:
    """Return the unit of a worker that the mount hangs on."""
    return f"recon-share-{share}.target"


def export_name(share: str, worker: str) -> str:
    """Return the unit by which a hub exports to one worker."""
    return f"recon-share-{share}-{worker}.service"


def source_of(share: HostShare, root: str) -> str:
    """Return what a worker mounts, as the kernel shows it."""
    return f"{_bracketed(share.hub_address)}:{root}"


def share_spec(fleet: Fleet, host: Host) -> ShareSpec | None:
    """Return by what the host's own programs go about its share, None when it is in none."""
    share, spiral = host.share, fleet.spiral
    if share is None or spiral is None:
        return None
    root = _root(spiral)
    producers = [unit for unit in spiral.units.values() if unit.producer]
    one = producers[0] if len(producers) == 1 else None
    marker = f"{root}/{MARKER}"
    if share.role == "hub":
        exports = {export_name(share.name, client.worker): client.address for client in share.clients}
        return ShareSpec(name=share.name, role="hub", hub=share.hub, marker=marker, exports=exports)
    return ShareSpec(
        name=share.name,
        role="worker",
        hub=share.hub,
        marker=marker,
        unit=target_name(share.name),
        mount=mount_name(root),
        source=source_of(share, root),
        producer=(one.argv if one else None) or (),
        producer_image=(one.image if one else None) or "",
    )


def share_files(
    share: HostShare, spiral: SpiralFile, loops: tuple[str, ...], templates: Mapping[str, str]
) -> tuple[RenderedFile, ...]:
    """Render what a host has of its share; `loops` come up with the mount, when a hub that was away is there again."""
    root = _root(spiral)
    if share.role == "worker":
        return _mounting(share, root, loops, templates)
    return tuple(_export(share, root, client.worker, client.address, templates) for client in share.clients)


def boots_of(share: HostShare | None) -> tuple[str, ...]:
    """Return what of a share starts with the host."""
    if share is None:
        return ()
    if share.role == "worker":
        return (target_name(share.name),)
    return tuple(export_name(share.name, client.worker) for client in share.clients)


def unit_keys(share: HostShare | None) -> Keys:
    """Return what the loops of a host have in `[Unit]` because of its share."""
    if share is None or share.role == "hub":
        return ()
    target = target_name(share.name)
    return (("BindsTo", target), ("After", target))


def service_keys(share: HostShare | None, root: str) -> Keys:
    """Return what they have in `[Service]`: the question whether it is safe to claim."""
    if share is None or share.role == "hub":
        return ()
    asked = ("/usr/bin/test", "-e", f"{root.rstrip('/')}/{MARKER}")
    return (("ExecCondition", encode.words(asked, field=_FIELD)),)


def _mounting(
    share: HostShare, root: str, loops: tuple[str, ...], templates: Mapping[str, str]
) -> tuple[RenderedFile, ...]:
    target, mount = target_name(share.name), mount_name(root)
    description = f"recon: share {share.name}, the root of the spiral on {share.hub}"
    said = encode.unit_value(description, field=_FIELD)
    of_target = {"description": said, "mount": mount, "units": loops}
    of_mount = {
        "description": said,
        "target": target,
        "what": encode.unit_value(source_of(share, root), field=_FIELD),
        "root": encode.unit_value(root, field=_FIELD),
        "options": ",".join((*MOUNT_OPTIONS, *share.options)),
    }
    hangs = {f"BindsTo={mount}", f"After={mount}", *(f"Wants={unit}" for unit in loops)}
    kept = {f"What={of_mount['what']}", f"Where={of_mount['root']}", "Type=nfs4", f"Options={of_mount['options']}"}
    return (
        native_file(target, SHARE_TARGET, of_target, hangs, templates),
        native_file(mount, SHARE_MOUNT, of_mount, kept | {f"PartOf={target}"}, templates),
    )


def _export(share: HostShare, root: str, worker: str, address: str, templates: Mapping[str, str]) -> RenderedFile:
    options = ",".join((*EXPORT_OPTIONS, _SQUASH[share.squash]))
    client = f"{_bracketed(address)}:{root}"
    values = {
        "description": encode.unit_value(f"recon: share {share.name}, exported to {worker}", field=_FIELD),
        "root": encode.unit_value(root, field=_FIELD),
        "export": encode.words((EXPORTFS, "-o", options, client), field=_FIELD),
        "unexport": encode.words((EXPORTFS, "-u", client), field=_FIELD),
    }
    kept = {
        f"ExecStart={values['export']}",
        f"ExecReload={values['export']}",
        f"ExecStop=-{values['unexport']}",
        "Requires=nfs-server.service",
        "After=nfs-server.service",
        "RemainAfterExit=yes",
    }
    return native_file(export_name(share.name, worker), SHARE_SERVICE, values, kept, templates)


def _root(spiral: SpiralFile) -> str:
    return spiral.root.rstrip("/")


def _bracketed(address: str) -> str:
    """Write an address so that a colon after it ends it: one of IPv6 has colons itself."""
    return f"[{address}]" if ":" in address else address
