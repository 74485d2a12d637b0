"""What would start at boot."""

from __future__ import annotations

from reconciler.agent import stray
from tests.agent.fakehost import Content, FakeHost, Link

ETC = "/etc/systemd/system"
ENABLED: dict[str, Content] = {
    f"{ETC}/multi-user.target.wants/recon-boot.target": Link(f"{ETC}/recon-boot.target"),
    f"{ETC}/recon-boot.target.wants": Link("/etc/containers/systemd/recon/boot.wants"),
    "/etc/containers/systemd/recon": Link("/etc/recon/generations/1"),
    "/etc/recon/generations/1/boot.wants/recon-coven-a.target": Link(f"{ETC}/recon-coven-a.target"),
}


def test_the_committed_covens_start_at_boot() -> None:
    assert stray.boot_targets(FakeHost(ENABLED)) == ["recon-coven-a.target"]


def test_a_boot_target_that_nothing_pulls_in_starts_nothing() -> None:
    disabled = {path: content for path, content in ENABLED.items() if "multi-user" not in path}

    assert stray.boot_targets(FakeHost(disabled)) == []


def test_a_second_coven_enabled_by_hand_is_seen_wherever_it_is_enabled() -> None:
    link = Link(f"{ETC}/recon-coven-b.target")
    for place in (
        f"{ETC}/multi-user.target.wants",
        f"{ETC}/graphical.target.requires",
        "/run/systemd/system/multi-user.target.wants",
        "/run/systemd/generator/default.target.upholds",
    ):
        host = FakeHost(ENABLED | {f"{place}/recon-coven-b.target": link})

        assert stray.boot_targets(host) == ["recon-coven-a.target", "recon-coven-b.target"]


def test_members_and_residents_are_not_what_boots_by_itself() -> None:
    generated: dict[str, Content] = {
        "/run/systemd/generator/recon-coven-a.target.wants/recon-a-x.service": Link("../recon-a-x.service"),
        "/run/systemd/generator/recon-boot.target.wants/recon-resident-e.service": Link("../recon-resident-e.service"),
    }

    assert stray.boot_targets(FakeHost(ENABLED | generated)) == ["recon-coven-a.target"]
