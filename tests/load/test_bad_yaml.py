"""Group A: what is wrong with a file before anybody looks at its keys."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.load.compose import compose
from tests.load.states import COVEN, FLEET, HOST, lines, problems, write

BOX = "desired/hosts/box.yaml"
DEEP = "[" * 60 + "]" * 60

# name, text of the host's file, code, line:column, words that the message must hold
TEXTS: list[tuple[str, str | bytes, str, str, str]] = [
    ("invalid UTF-8", b"address: \xff\n", "REC1001", "1:10", "byte 9"),
    ("UTF-16", "address: x\n".encode("utf-16"), "REC1002", "1:1", "UTF-16"),
    ("UTF-32", "address: x\n".encode("utf-32"), "REC1002", "1:1", "UTF-32"),
    ("UTF-8 with a mark", b"\xef\xbb\xbfaddress: x\n", "REC1002", "1:1", "without BOM"),
    ("too large", "#" * (1 << 20) + "\n", "REC1003", "", "1048576"),
    ("tab", "ssh:\n\tuser: x\n", "REC1004", "2:1", "spaces"),
    ("tab after spaces", "ssh:\n  \tuser: x\n", "REC1004", "2:3", "spaces"),
    ("tab inside braces", "ssh: {\n\tuser: x}\n", "REC1004", "2:1", "spaces"),
    ("tab beside block text", "coven: |\n  x\nssh:\n\tuser: x\n", "REC1004", "4:1", "spaces"),
    ("duplicate key", "address: a\nreserve: 1GiB\naddress: b\n", "REC1005", "3:1", "line 1 and again line 3"),
    ("duplicate in braces", "ssh: {user: a, user: b}\n", "REC1005", "1:16", "line 1 and again line 1"),
    ("too many aliases", "may_run: [&a x" + ", *a" * 101 + "]\n", "REC1006", "1:417", "100"),
    ("self reference", "may_run: &a [*a]\n", "REC1007", "1:14", "*a"),
    ("undefined alias", "may_run: *nobody\n", "REC1008", "1:10", "&nobody"),
    ("too deep", f"may_run: {DEEP}\n", "REC1009", "1:59", "50 levels"),
    ("Python tag", "address: !!python/object/apply:os.system [x]\n", "REC1010", "1:10", "remove the tag"),
    ("local tag", "address: !vault x\n", "REC1010", "1:10", "!vault"),
    ("standard tag", "address: !!str x\n", "REC1010", "1:10", "remove the tag"),
    ("tag on a key", "!!str address: x\n", "REC1010", "1:1", "remove the tag"),
    ("YAML 1.1 directive", "%YAML 1.1\n---\naddress: x\n", "REC1011", "1:1", "remove the line"),
    ("tag directive", "# c\n\n%TAG ! tag:x,2000:\n---\naddress: x\n", "REC1011", "3:1", "remove the line"),
    ("unknown directive", "%WHAT x\n---\naddress: x\n", "REC1011", "1:1", "remove the line"),
    ("two documents", "address: x\n---\naddress: y\n", "REC1012", "2:1", "one document"),
    ("empty", "", "REC1013", "1:1", "nothing in it"),
    ("only comments", "# later\n\n", "REC1013", "1:1", "nothing in it"),
    ("only a document start", "---\n", "REC1013", "1:1", "nothing in it"),
    ("list at the top", "- address: x\n", "REC1014", "1:1", "list"),
    ("word at the top", "address\n", "REC1014", "1:1", "single value"),
    ("number as key", "address: x\n8000: y\n", "REC1015", "2:1", '"8000"'),
    ("null as key", "~: y\n", "REC1015", "1:1", "not text"),
    ("boolean as key", "true: y\n", "REC1015", "1:1", "not text"),
    ("empty key", "? \n: y\n", "REC1015", "1:2", "empty"),
    ("list as key", "? [a, b]\n: y\n", "REC1015", "1:3", "plain text"),
    ("alias as key", "address: &a x\n*a : y\n", "REC1015", "2:1", "plain text"),
    ("beyond 64 bit", "reserve: 9223372036854775808\n", "REC1016", "1:10", "64 bits"),
    ("five thousand digits", "reserve: " + "9" * 5000 + "\n", "REC1016", "1:10", "64 bits"),
    ("not a number", "reserve: .nan\n", "REC1017", "1:10", "finite"),
    ("infinity", "reserve: -.inf\n", "REC1017", "1:10", "finite"),
    ("too large a float", "reserve: 1e400\n", "REC1017", "1:10", "finite"),
    ("date", "address: 2026-01-31\n", "REC1018", "1:10", '"2026-01-31"'),
    ("timestamp", "address: 2026-01-31T10:00:00Z\n", "REC1018", "1:10", "quote it"),
    ("time of day", "schedule:\n  - coven: x\n    from: 02:00\n", "REC1018", "3:11", '"02:00"'),
    ("time of day in braces", "schedule:\n  - {coven: x, from: 02:00}\n", "REC1029", "2:24", "quote a value"),
    ("yes for true", "address: x\nspiral: {enabled: yes}\n", "REC1019", "2:19", "write true"),
    ("off for false", "address: x\nspiral: {enabled: Off}\n", "REC1019", "2:19", "write false"),
    ("leading zero", "reserve: 010\n", "REC1020", "1:10", "decimal"),
    ("underscore", "reserve: 1_000\n", "REC1020", "1:10", "decimal"),
    ("hexadecimal", "reserve: 0x10\n", "REC1020", "1:10", "decimal"),
    ("octal", "reserve: 0o17\n", "REC1020", "1:10", "decimal"),
    ("leading zero in a fraction", "reserve: 01.5\n", "REC1020", "1:10", "decimal"),
    ("escaped escape", 'address: "\\e[2J"\n', "REC1021", "1:10", "escape"),
    ("escaped NUL", 'address: "a\\0"\n', "REC1021", "1:10", "escape"),
    ("escaped C1", 'address: "\\x9b"\n', "REC1021", "1:10", "escape"),
    ("raw escape character", "address: x\x1b[2J\n", "REC1021", "1:11", "remove"),
    ("raw next line", "address: x\x85\n", "REC1021", "1:11", "remove"),
    ("escape in a key", '"a\\e": x\n', "REC1021", "1:1", "escape"),
    ("right-to-left override", "address: x\u202ey\n", "REC1022", "1:11", "U+202E"),
    ("zero width in a comment", "address: x # a\u200bb\n", "REC1022", "1:15", "U+200B"),
    ("escaped isolate", 'address: "\\u2066"\n', "REC1022", "1:10", "U+2066"),
    ("line separator", "address: x\u2028y\n", "REC1022", "1:11", "U+2028"),
    ("merge overrides", "ssh: &a {user: x}\nmemory:\n  <<: *a\n  user: y\n", "REC1023", "3:3", "'user'"),
    ("two merges of one key", "ssh: &a {user: x}\nmemory:\n  <<: [*a, *a]\n", "REC1023", "3:3", "'user'"),
    ("merge of a word", "ssh:\n  <<: x\n", "REC1023", "2:3", "mappings only"),
    ("merge markers", "<<<<<<< HEAD\ncoven: a\n=======\ncoven: b\n>>>>>>> x\n", "REC1026", "1:1", "resolve"),
    ("one merge marker left", "address: x\n>>>>>>> topic\n", "REC1026", "2:1", "resolve"),
    ("plain secret", "address: x\nsecrets: {token: abc}\n", "REC1027", "2:18", "git keeps"),
    ("plain secret in a list", 'address: x\nsecrets: {a: ["ENC[x]", b]}\n', "REC1027", "2:25", "git keeps"),
    ("encrypted secret", 'address: x\nsecrets: {token: "ENC[AES256,data:x]"}\n', "REC1028", "2:1", "SOPS"),
    ("SOPS metadata", "address: x\nsops: {mac: x}\n", "REC1028", "2:1", "SOPS"),
    ("open bracket", "may_run: [a, b\naddress: x\n", "REC1029", "2:8", "close the bracket"),
    ("open quote", 'address: "x\n', "REC1029", "1:10", "close the quotes"),
    ("colon in a value", "address: a: b\n", "REC1029", "1:11", "quote"),
    ("at sign first", "address: @x\n", "REC1029", "1:10", "quote"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "place", "words"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_bad_text_is_refused_with_its_code_place_and_hint(
    tmp_path: Path, text: str | bytes, code: str, place: str, words: str
) -> None:
    found = problems(write(tmp_path, {BOX: text}))

    expected = f"{BOX}:{place}" if place else BOX
    told = [problem for problem in found if problem.code == code and str(problem.where) == expected]
    assert told, [str(problem) for problem in found]
    assert words in f"{told[0].detail} {told[0].fix}"
    assert told[0].fix


# What does not depend on where a parser stands when it gives up.
SAME_IN_BOTH = [row for row in TEXTS if isinstance(row[1], str) and row[2] not in ("REC1029", "REC1003")]


@pytest.mark.parametrize("row", SAME_IN_BOTH, ids=lambda row: str(row[0]))
def test_without_the_compiled_parser_the_same_is_refused(row: tuple[str, str, str, str, str]) -> None:
    compiled, pure = compose(row[1], "f"), compose(row[1], "f", pure=True)

    assert [(each.code, each.where) for each in pure.problems] == [
        (each.code, each.where) for each in compiled.problems
    ]
    assert pure.value == compiled.value


def test_an_alias_bomb_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]

    found = problems(write(tmp_path, {BOX: "\n".join(bomb) + "\n"}))

    assert [problem.code for problem in found if problem.where and problem.where.file == BOX] == ["REC1006"]


def test_aliases_and_merges_inside_the_limits_are_values(tmp_path: Path) -> None:
    text = "a: &a {k: 1}\nb: *a\nc:\n  <<: *a\n  l: 2\nd: &d x\ne: [*d, *d]\n"

    composed = compose(text, "f")

    assert composed.problems == []
    assert composed.value == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}, "d": "x", "e": ("x", "x")}


def test_plain_scalars_are_what_yaml_1_2_says() -> None:
    text = "a: true\nb: Null\nc:\nd: ~\ne: -7\nf: 1.5\ng: 1e3\nh: yes\n"
    text += "i: 1.2.3\nj: '010'\nk: 0\nl: .5\nm: 14GiB\nn: False\n"

    composed = compose(text, "f")

    assert composed.problems == []
    assert composed.value == {
        "a": True, "b": None, "c": None, "d": None, "e": -7, "f": 1.5, "g": 1000.0, "h": "yes", "i": "1.2.3",
        "j": "010", "k": 0, "l": 0.5, "m": "14GiB", "n": False,
    }  # fmt: skip


def test_tabs_in_block_text_and_between_tokens_are_no_indentation() -> None:
    composed = compose("a: |\n  x\n  \ty\nb:\tz\n", "f")

    assert composed.problems == []
    assert composed.value == {"a": "x\n\ty\n", "b": "z"}


def test_every_problem_of_one_file_is_told_at_once(tmp_path: Path) -> None:
    text = "address: !x a\nreserve: 010\ncovn: writing\nspiral: {enabled: yes}\naddress: b\nmemory: 1.5\n"

    assert lines(write(tmp_path, {BOX: text})) == [
        f"REC1010 {BOX}:1:10",
        f"REC1020 {BOX}:2:10",
        f"REC2001 {BOX}:3:1",
        f"REC1019 {BOX}:4:19",
        f"REC1005 {BOX}:5:1",
        f"REC2003 {BOX}:6:9",
    ]


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
@pytest.mark.parametrize("name", ["fleet.yaml", "hosts/box.yaml", "covens/writing.yaml"])
def test_nothing_but_a_regular_file_is_opened(tmp_path: Path, kind: str, name: str) -> None:
    path = write(tmp_path, {}) / "desired" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd" if kind == "link" else "/nonexistent")

    expected = f"REC2036 desired/{name}/" if kind == "folder" and "/" in name else f"REC1024 desired/{name}"
    assert expected in lines(tmp_path)


@pytest.mark.parametrize("name", ["desired", "desired/hosts", "desired/covens"])
def test_a_linked_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    write(tmp_path / "elsewhere", {})
    write(tmp_path / "here", {})
    folder = tmp_path / "here" / name
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "elsewhere" / name)

    assert f"REC1024 {name}" in lines(tmp_path / "here")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, {})
    (tmp_path / "desired/hosts/box.yaml").unlink()
    os.mknod(tmp_path / "desired/hosts/box.yaml", 0o600 | 0o140000)  # a socket cannot be opened at all

    assert lines(tmp_path) == [f"REC1030 {BOX}"]


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {})
    bad = (tmp_path / "desired/hosts/box.yaml").stat().st_ino
    real = os.read

    def read(descriptor: int, count: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", read)

    assert lines(tmp_path) == [f"REC1030 {BOX}"]


def test_two_files_of_one_object_name_each_other(tmp_path: Path) -> None:
    found = problems(write(tmp_path, {"desired/hosts/box.yml": HOST, "desired/covens/writing.yml": COVEN}))

    assert [(each.code, str(each.where), each.fix) for each in found] == [
        (
            "REC1025",
            "desired/covens/writing.yml",
            "keep one of desired/covens/writing.yaml and desired/covens/writing.yml",
        ),
        ("REC1025", "desired/hosts/box.yml", f"keep one of {BOX} and desired/hosts/box.yml"),
    ]


def test_a_yml_file_alone_counts(tmp_path: Path) -> None:
    write(tmp_path, {"desired/hosts/other.yml": "address: 192.0.2.9\n"})

    assert problems(tmp_path) == ()


def test_a_file_in_a_place_that_nobody_reads_is_told(tmp_path: Path) -> None:
    state = {"desired/host/x.yaml": HOST, "desired/box.yaml": HOST, "desired/hosts/rack/x.yaml": HOST}
    found = lines(write(tmp_path, {**state, "desired/notes.md": "x", "desired/hosts/.box.yaml.swp": "x"}))

    assert found == ["REC2036 desired/box.yaml", "REC2036 desired/host/", "REC2036 desired/hosts/rack/"]


def test_files_with_windows_line_ends_are_read(tmp_path: Path) -> None:
    crlf = {"desired/fleet.yaml": FLEET.replace("\n", "\r\n"), BOX: HOST.replace("\n", "\r\n")}

    assert problems(write(tmp_path, {**crlf, "desired/covens/writing.yaml": COVEN.replace("\n", "\r\n")})) == ()
