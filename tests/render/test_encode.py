"""Values arrive as they were meant, or are refused by name."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.errors import DesiredStateError
from reconciler.render import encode
from tests.render.parsers import logical_value, quadlet_line, quadlet_words, specifiers, systemd_words

# Everything a unit file can hold on a line, the dangerous letters far more often than chance would bring them.
TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from(" \"'\\%$;#{}[]=:`|&\u00a0\u3000é漢ins"),
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")),
    ),
    max_size=24,
)


def executed(*values: str) -> list[list[str]]:
    """The argv systemd would run for `Exec=` with these values after two fixed words, through podman."""
    line = logical_value(encode.words(("first", *values, "last"), field="x"))
    return systemd_words(quadlet_line(quadlet_words(line)))


@given(st.lists(TEXT, max_size=6))
@example([""])
@example([";"])
@example(["", ";", ""])
@example(["\\"])
@example(["${HOME}", "$HOME", "$$", "%h", "%%", "%"])
@example(['"', "'", "a\\", "\\;", "%i", "#", "[Service]", "\u00a0"])
def test_arguments_are_executed_as_they_were_written(values: list[str]) -> None:
    assert executed(*values) == [["first", *values, "last"]]


@given(TEXT)
@example("")
@example(" ;$x %h ")
def test_an_environment_value_is_executed_as_it_was_written(value: str) -> None:
    line = encode.assignment("KEY", value, field="x")

    assert systemd_words(quadlet_line(quadlet_words(logical_value(line)))) == [[f"KEY={value}"]]


@given(TEXT)
@example("\\")
@example(" ")
@example("\u3000x\u3000")
def test_a_value_podman_takes_whole_is_executed_as_it_was_written(value: str) -> None:
    kept = logical_value(encode.raw(value, field="x"))

    # An empty or lone value never reaches a command line alone: these keys stand behind their option.
    assert systemd_words(quadlet_line([f"-v={kept}"])) == [[f"-v={value}"]]


@given(TEXT)
@example("ends with \\")
@example(" leads")
def test_free_text_reads_as_it_was_written(value: str) -> None:
    assert specifiers(logical_value(encode.unit_value(value, field="x"))) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nPrivileged=yes", "U+000A at character 2"),
        ("\r", "U+000D at character 1"),
        ("tab\there", "U+0009 at character 4"),
        ("\x1b[31m", "U+001B at character 1"),
        ("nul\0", "U+0000 at character 4"),
        ("c1\x9b", "U+009B at character 3"),
        ("\u2028", "U+2028 at character 1"),
        ("half \ud800", "U+D800 at character 6"),
    ],
)
def test_a_control_character_is_refused_with_its_place(text: str, said: str) -> None:
    for encoder in (encode.word, encode.raw, encode.unit_value, encode.volume):
        with pytest.raises(DesiredStateError) as caught:
            encoder(text, field="covens.x.services.y.args[3]")

        (problem,) = caught.value.problems
        assert problem.code == "REC3005"
        assert problem.detail.startswith(f"covens.x.services.y.args[3] has {said};")


@pytest.mark.parametrize("source", ["/srv/a b", "/srv/it's", '/srv/"q"', "/srv/back\\slash", "/srv/wide\u3000space"])
def test_a_host_path_that_podman_writes_in_two_places_is_refused_when_it_fits_only_one(source: str) -> None:
    with pytest.raises(DesiredStateError) as caught:
        encode.volume(f"{source}:/inside:ro", field="x")

    assert [problem.code for problem in caught.value.problems] == ["REC3004"]


def test_a_mount_with_signs_systemd_expands_is_encoded() -> None:
    assert encode.volume("/srv/50%/$x:/in side/\\", field="x") == "/srv/50%%/$$x:/in side/\\%i"


def test_plain_words_stay_readable() -> None:
    argv = ("--model", "/srv/models/llama-70b", "--port", "8000", "--gpu-memory-utilization=0.85")

    assert encode.words(argv, field="x") == "--model /srv/models/llama-70b --port 8000 --gpu-memory-utilization=0.85"


@pytest.mark.parametrize(
    ("size", "podman", "systemd"),
    [
        (1, "1b", "1"),
        (1024, "1k", "1K"),
        (3 * 2**20, "3m", "3M"),
        (96 * 2**30, "96g", "96G"),
        (2**40, "1024g", "1T"),
        (2**30 + 1, "1073741825b", "1073741825"),
    ],
)
def test_sizes_are_exact_in_both_languages(size: int, podman: str, systemd: str) -> None:
    assert (encode.podman_size(size), encode.systemd_size(size)) == (podman, systemd)


def test_processors_become_a_percentage_without_specifier_escapes() -> None:
    assert [encode.cpu_quota(cpus) for cpus in (16, 0.5, 1.234567, 0.00001, 10)] == [
        "1600%",
        "50%",
        "123.46%",
        "0.01%",
        "1000%",
    ]
