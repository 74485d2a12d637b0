"""Headers, tiers, the committed generation."""

from __future__ import annotations

import hashlib

import pytest

from reconciler.agent import files
from reconciler.agent.files import Header
from reconciler.agent.record import seal
from tests.agent.fakehost import Content, Denied, FakeHost, Link

BODY = "[Container]\nImage=example.net/vllm@sha256:aa\n"
HEADER = (
    "# Managed by recon: change desired/ in git, then run recon apply.\n"
    "# recon-owner: studio/spark-1\n"
    "# recon-config-hash: 0123456789abcdef\n"
    "# recon-source-commit: 4f2a9c1\n"
)
ONE = "/etc/recon/generations/1"
TWO = "/etc/recon/generations/2"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_described(path: str, tier: str, **over: object) -> dict[str, object]:
    described: dict[str, object] = {
        "path": path,
        "owner": "studio/spark-1",
        "config_hash": "0123456789abcdef",
        "source_commit": "4f2a9c1",
        "body_sha256": sha256(BODY),
        "tier": tier,
    }
    return described | over


def test_the_body_digest_leaves_the_header_out() -> None:
    with_header = files.read_header((HEADER + BODY).encode())

    assert with_header == Header("studio/spark-1", "0123456789abcdef", "4f2a9c1", sha256(BODY), BODY.encode())
    assert files.read_header(BODY.encode()) == Header(None, None, None, sha256(BODY), BODY.encode())


def test_only_the_first_word_on_an_owner_counts_and_a_comment_in_the_body_is_body() -> None:
    text = "# recon-owner: studio/a\n# recon-owner: evil/b\n[Unit]\n# recon-source-commit: x\n"

    assert files.read_header(text.encode()) == Header(
        "studio/a", None, None, sha256("[Unit]\n# recon-source-commit: x\n"), b"[Unit]\n# recon-source-commit: x\n"
    )


def test_a_file_that_is_all_comment_has_an_empty_body() -> None:
    assert files.read_header(b"# recon-owner: studio/a") == Header("studio/a", None, None, sha256(""), b"")


def test_control_characters_in_a_header_are_escaped() -> None:
    assert files.read_header(b"# recon-owner: a\x1b[2J\xe2\x80\xaeb\n").owner == "a\\x1b[2J\\u202eb"


def test_every_tier_is_found_and_named() -> None:
    host = FakeHost(
        {
            f"{ONE}/recon-a-x.container": HEADER + BODY,
            f"{ONE}/units/recon-coven-a.target": BODY,
            f"{ONE}/manifest.json": "{}",
            f"{ONE}/boot.wants/recon-coven-a.target": Link("/etc/systemd/system/recon-coven-a.target"),
            f"{TWO}/recon-b-x.container": HEADER + BODY,
            "/etc/containers/systemd/recon": Link(ONE),
            "/run/containers/systemd/recon-trial": Link(TWO),
            "/etc/systemd/system/recon-coven-a.target": HEADER + BODY,
            "/etc/systemd/system/recon-boot.target.wants": Link("/etc/containers/systemd/recon/boot.wants"),
            "/etc/systemd/system/ssh.service": BODY,
            "/run/systemd/system/recon-a-x.service": Link("/dev/null"),
            "/etc/containers/systemd/sub/recon-a-x.container": BODY,
            "/etc/containers/systemd/other.container": BODY,
            "/etc/containers/systemd/users/recon-mine.container": BODY,
            "/etc/systemd/system.control/recon-a-x.service.d/50-MemoryMax.conf": BODY,
            "/etc/systemd/system/recon-a-x.service.d/override.conf": BODY,
            "/etc/containers/systemd/recon-a-x.container.d/10.conf": BODY,
            "/run/systemd/transient/recon-executor.service": BODY,
            "/usr/share/containers/systemd/recon-a-x.container": BODY,
        }
    )
    foreign = {"owner": None, "config_hash": None, "source_commit": None}
    stray = [
        "/etc/containers/systemd/recon-a-x.container.d/10.conf",
        "/etc/containers/systemd/sub/recon-a-x.container",
        "/etc/systemd/system.control/recon-a-x.service.d/50-MemoryMax.conf",
        "/etc/systemd/system/recon-a-x.service.d/override.conf",
        "/usr/share/containers/systemd/recon-a-x.container",
    ]
    mask = {**foreign, "body_sha256": sha256("-> /dev/null\n")}

    found = files.managed_files(host)

    assert found == sorted(
        [
            a_described("/etc/containers/systemd/recon/recon-a-x.container", "committed"),
            a_described("/run/containers/systemd/recon-trial/recon-b-x.container", "trial"),
            a_described("/etc/systemd/system/recon-coven-a.target", "native"),
            a_described("/run/systemd/system/recon-a-x.service", "trial", **mask),
            *(a_described(path, "stray", **foreign) for path in stray),
        ],
        key=lambda described: str(described["path"]),
    )


def test_a_mask_without_a_trial_is_a_stray() -> None:
    host = FakeHost({"/run/systemd/system/recon-a-x.service": Link("/dev/null")})

    assert [(file["path"], file["tier"]) for file in files.managed_files(host)] == [
        ("/run/systemd/system/recon-a-x.service", "stray")
    ]


def test_a_host_without_any_of_it_has_no_files() -> None:
    assert files.managed_files(FakeHost()) == []


def test_a_file_that_is_not_as_expected_carries_its_body_and_no_other_does() -> None:
    host = FakeHost(
        {
            f"{ONE}/recon-a-x.container": HEADER + BODY,
            f"{ONE}/recon-a-y.container": HEADER + BODY + "# by hand\n",
            f"{ONE}/recon-a-z.container": HEADER + BODY + "x" * (files.BODY_LIMIT),
            "/etc/containers/systemd/recon": Link(ONE),
        }
    )
    expect = {f"recon-a-{name}.container": sha256(BODY) for name in "xyz"}

    found = {file["path"][-11:]: file.get("body") for file in files.managed_files(host, expect)}

    assert found == {"x.container": None, "y.container": BODY + "# by hand\n", "z.container": None}


@pytest.mark.parametrize("content", [Denied(), "x" * (files.FILE_LIMIT + 1)])
def test_a_file_that_cannot_be_read_whole_is_never_left_out(content: Content) -> None:
    host = FakeHost({f"{ONE}/recon-a-x.container": content, "/etc/containers/systemd/recon": Link(ONE)})

    with pytest.raises(OSError, match=r"recon-a-x\.container"):
        files.managed_files(host)


def test_files_become_units() -> None:
    paths = [
        "/etc/containers/systemd/recon/recon-a-x.container",
        "/etc/containers/systemd/recon/recon-cache.volume",
        "/etc/systemd/system/recon-coven-a.target",
        "/etc/systemd/system/recon-a-x.service.d/override.conf",
        "/run/systemd/system/recon-a-x.service",
    ]

    assert files.units_of(paths) == ["recon-a-x.service", "recon-cache-volume.service", "recon-coven-a.target"]


def test_nothing_committed_is_none_and_not_unknown() -> None:
    assert files.generation(FakeHost()) is None


def test_the_committed_generation_is_what_the_link_says() -> None:
    body: dict[str, object] = {"groups": [], "live": {}, "files": {}}
    host = FakeHost(
        {
            "/etc/containers/systemd/recon": Link(ONE),
            f"{ONE}/manifest.json": seal(body),
            f"{ONE}/boot.wants/recon-coven-a.target": Link("/etc/systemd/system/recon-coven-a.target"),
        }
    )

    assert files.generation(host) == {"number": 1, "manifest": {"value": body}, "boot": ["recon-coven-a.target"]}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (None, f"{ONE}/manifest.json: No such file or directory"),
        (seal({"live": {}}).replace(b"live", b"evil"), f"{ONE}/manifest.json: its sum is wrong"),
        (b'{"v":1', f"{ONE}/manifest.json: it is not JSON"),
    ],
)
def test_a_manifest_that_does_not_verify_is_unknown(manifest: bytes | None, reason: str) -> None:
    host = FakeHost({"/etc/containers/systemd/recon": Link(ONE), f"{ONE}/recon-a-x.container": BODY})
    if manifest is not None:
        host.files[f"{ONE}/manifest.json"] = manifest

    assert files.generation(host) == {"number": 1, "manifest": {"unknown": reason}, "boot": []}


def test_a_committed_generation_that_is_lost_is_still_the_committed_one() -> None:
    host = FakeHost({"/etc/containers/systemd/recon": Link(TWO), f"{ONE}/manifest.json": "{}"})

    reason = f"generation 2 is committed, but {TWO} is not there"
    assert files.generation(host) == {"number": 2, "manifest": {"unknown": reason}, "boot": []}


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (Link("/srv/elsewhere/1"), "points to /srv/elsewhere/1, which is no generation"),
        (Link("/etc/recon/generations/latest"), "which is no generation"),
        ("a file", "is no symlink"),
    ],
)
def test_a_committed_link_that_leads_nowhere_is_an_error(where: Content, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        files.generation(FakeHost({"/etc/containers/systemd/recon": where, f"{ONE}/manifest.json": "{}"}))


def test_live_members_are_those_of_live_covens_and_the_residents() -> None:
    def group(coven: str, *units: str) -> dict[str, object]:
        return {"coven": coven, "members": [{"unit": unit} for unit in units]}

    manifest = {
        "groups": [group("reasoning", "recon-reasoning-vllm.service"), group("vision", "recon-vision-flux.service")],
        "live": {"main": "reasoning", "side": None},
        "residents": [{"unit": "recon-resident-embed.service"}],
    }

    assert files.live_members(manifest) == [
        {"unit": "recon-reasoning-vllm.service"},
        {"unit": "recon-resident-embed.service"},
    ]
