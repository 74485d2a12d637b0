"""known_hosts as OpenSSH writes it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from reconciler.hosts.known_hosts import HostKey, KnownHosts, Trusted, parse_key


def a_key(seed: bytes) -> HostKey:
    return HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + seed.ljust(32, b"."))


ONE, TWO, THREE = a_key(b"one"), a_key(b"two"), a_key(b"three")


def test_a_key_says_its_fingerprint_as_ssh_keygen_does() -> None:
    text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a comment"
    key = parse_key(text)

    assert key is not None
    assert str(key) == text.removesuffix(" a comment")
    assert key.fingerprint == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


@pytest.mark.parametrize(
    "text",
    ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa " + base64.b64encode(ONE.blob).decode(), "ssh-ed25519 AAAA"],
)
def test_what_is_no_key_is_not_taken_for_one(text: str) -> None:
    assert parse_key(text) is None


def test_names_addresses_and_ports_are_entries_of_their_own() -> None:
    known = KnownHosts(
        f"# a comment\n\nspark-1.example.net,192.0.2.11 {ONE}\n"
        f"[192.0.2.11]:2222 {TWO} somebody@here\n192.0.2.11 {THREE}\n"
    )

    assert known.lookup("192.0.2.11") == Trusted((ONE, THREE), ())
    assert known.lookup("SPARK-1.example.net") == Trusted((ONE,), ())
    assert known.lookup("192.0.2.11", 2222) == Trusted((TWO,), ())
    assert known.lookup("192.0.2.12") == Trusted((), ())


def test_patterns_match_and_exclude() -> None:
    known = KnownHosts(f"*.example.net,!bad.example.net {ONE}\n[10.0.0.?]:2222 {TWO}\n")

    assert known.lookup("good.example.net").keys == (ONE,)
    assert known.lookup("bad.example.net").keys == ()
    assert known.lookup("10.0.0.7", 2222).keys == (TWO,)
    assert known.lookup("0", 2222).keys == ()


def test_hashed_names_are_found() -> None:
    # The hash is HMAC-SHA1 of the name with the salt "0123456789abcdefghij", as ssh-keygen -H writes it.
    line = f"|1|MDEyMzQ1Njc4OWFiY2RlZmdoaWo=|XbIhYRE6bZDRW08V0UAFcP4J21E= {ONE}"
    known = KnownHosts(f"{line}\n|1|broken {TWO}\n|1|!!!|### {TWO}\n")

    assert known.lookup("192.0.2.11").keys == (ONE,)
    assert known.lookup("192.0.2.12").keys == ()


def test_revoked_keys_are_told_apart_and_authorities_are_not_used() -> None:
    known = KnownHosts(f"@revoked 192.0.2.11 {ONE}\n@cert-authority * {TWO}\n192.0.2.11 {THREE}\n")

    assert known.lookup("192.0.2.11") == Trusted((THREE,), (ONE,))


def test_files_that_are_not_there_know_nobody(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(f"192.0.2.11 {ONE}")
    (tmp_path / "two").write_text(f"192.0.2.11 {TWO}\n")
    known = KnownHosts.read((tmp_path / "one", tmp_path / "missing", tmp_path / "two"))

    assert known.lookup("192.0.2.11").keys == (ONE, TWO)
