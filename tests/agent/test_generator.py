from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import generator
from reconciler.agent.machine import Completed
from reconciler.agent.words import WordsError, resolve, split_exec
from tests.agent.fakehost import FakeHost

IMAGE = "registry.example.net/a@sha256:" + "a" * 64
# As the generator of podman 5.4.2 prints it.
OUTPUT = f"""\
---recon-chat-vllm.service---
# Managed by recon: change desired/ in git, then run recon apply.
[Unit]
Wants=network-online.target
SourcePath=/etc/recon/generations/2/recon-chat-vllm.container

[X-Container]
Exec=--a "b c"

[Service]
Environment=PODMAN_SYSTEMD_UNIT=%n
ExecStop=/usr/bin/podman rm -v -f -i --cidfile=%t/%N.cid
ExecStart=/usr/bin/podman run --name recon-chat-vllm --cidfile=%t/%N.cid --replace --rm -d --label a=b {IMAGE} \
--a "b c" it%%s "q\\"uo" x$$y "back\\\\slash" "tab\\tx" "" ünï

[Install]
WantedBy=recon-coven-chat.target

---recon-resident-parser.service---
[Service]
ExecStart=/usr/bin/podman run --name=recon-resident-parser {IMAGE}
"""
ARGV = ["--a", "b c", "it%s", 'q"uo', "x$y", "back\\slash", "tab\tx", "", "ünï"]


def a_member(**over: Any) -> dict[str, Any]:
    values = {"unit": "recon-chat-vllm.service", "container": "recon-chat-vllm", "image": IMAGE, "argv": ARGV}
    return values | over


PARSER = {
    "unit": "recon-resident-parser.service",
    "container": "recon-resident-parser",
    "image": IMAGE,
    "argv": [],
}


def test_units_that_say_what_was_reviewed_have_no_difference() -> None:
    units = generator.split_units(OUTPUT)

    assert sorted(units) == ["recon-chat-vllm.service", "recon-resident-parser.service"]
    assert generator.compare(units, [a_member(), PARSER]) == []


@pytest.mark.parametrize(
    ("over", "problem"),
    [
        ({"argv": [*ARGV[:-1], "uni"]}, "word 9 after the image would be ünï, not uni"),
        ({"argv": ARGV[:-1]}, "the image would be --a, not " + IMAGE[:119] + ""),
        ({"argv": [*ARGV, "more"]}, "the image would be a=b, not " + IMAGE),
        ({"container": "other"}, "the container would be named recon-chat-vllm, not other"),
        ({"image": IMAGE[:-1] + "b"}, f"the image would be {IMAGE}, not {IMAGE[:-1]}b"),
    ],
)
def test_every_other_word_is_a_difference(over: dict[str, Any], problem: str) -> None:
    assert generator.compare(generator.split_units(OUTPUT), [a_member(**over)]) == [
        f"recon-chat-vllm.service: {problem}"
    ]


def test_a_unit_that_was_not_made_is_a_difference() -> None:
    member = a_member(unit="recon-chat-other.service")

    assert generator.compare(generator.split_units(OUTPUT), [member]) == [
        "recon-chat-other.service: the generator made no such unit"
    ]


def test_a_continued_command_line_is_read_as_systemd_reads_it() -> None:
    text = (
        f"[Service]\nExecStart=/usr/bin/podman run \\\n# a comment between\n  --name recon-chat-vllm {IMAGE} \\\n  x\n"
    )

    assert generator.compare({"recon-chat-vllm.service": text}, [a_member(argv=["x"])]) == []


def test_a_generator_that_fails_is_told_with_its_words() -> None:
    argv = (generator.GENERATOR, "--dryrun")
    host = FakeHost(programs={argv: Completed(1, b"", b"quadlet-generator[1]: unsupported key 'Nope'\n")})

    with pytest.raises(generator.GeneratorError, match="unsupported key 'Nope'"):
        generator.generate(host, "/etc/recon/generations/2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/bin/a  b\tc", ["/bin/a", "b", "c"]),
        ("\"a b\"'c d' e", ["a bc d", "e"]),
        (r"\x41\x42 \u00fc \101 \s", ["AB", "ü", "A", " "]),
        (r"\xc3\xbc", ["ü"]),
        (r"a \; b", ["a", ";", "b"]),
        ('""', [""]),
        ("a;b ';'", ["a;b", ";"]),
    ],
)
def test_words_are_split_as_systemd_splits_them(line: str, words: list[str]) -> None:
    assert split_exec(line) == words


@pytest.mark.parametrize("line", ["a ; b", '"open', r"\q", r"\xZZ", r"\u12", "a\\"])
def test_what_systemd_would_not_run_word_for_word_is_an_error(line: str) -> None:
    with pytest.raises(WordsError):
        split_exec(line)


@pytest.mark.parametrize("word", ["%n", "100%t", "$HOME", "a${HOME}b", "$1", "$"])
def test_what_systemd_would_expand_is_an_error(word: str) -> None:
    with pytest.raises(WordsError, match="would expand"):
        resolve(word)


def test_doubled_signs_and_a_lone_dollar_inside_a_word_stay_what_they_are() -> None:
    assert [resolve(word) for word in ("100%%", "$$HOME", "a$$b", "a$b", "5$", "50%")] == [
        "100%",
        "$HOME",
        "a$b",
        "a$b",
        "5$",
        "50%",
    ]


class Verifying(FakeHost):
    """A host whose systemd-analyze ends as it is told to."""

    def __init__(self, rc: int, err: bytes) -> None:
        super().__init__()
        self.end = Completed(rc, b"", err)

    def mkdir(self, path: str, mode: int = 0o755) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None: ...

    def run(self, argv: Any, timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None) -> Completed:
        return self.end


HANGS = b"\nrecon: killed at its deadline"


@pytest.mark.parametrize(
    ("rc", "err", "away", "said"),
    [
        (0, b"", "", []),
        (1, b"/etc/other.service:3: Unknown key", "", []),
        (1, b"/scratch/recon-a.service:3: Unknown key", "", ["/scratch/recon-a.service:3: Unknown key"]),
        (124, HANGS, "", ["systemd-analyze verify: recon: killed at its deadline"]),
        (124, HANGS, "/srv/spiral", []),
        (
            127,
            b"systemd-analyze: No such file or directory",
            "/srv/spiral",
            ["systemd-analyze verify: systemd-analyze: No such file or directory"],
        ),
    ],
)
def test_what_nobody_looked_at_is_not_well(rc: int, err: bytes, away: str, said: list[str]) -> None:
    found = generator.verify(Verifying(rc, err), {"recon-a.service": "[Service]\n"}, {}, "/scratch", away=away)

    assert found == said
