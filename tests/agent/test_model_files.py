"""What lies on the disk of a model: every way in which it is not there, not whole, too large or not enough."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.agent.machine import Completed
from reconciler.agent.model_files import fault_of, faults
from reconciler.agent.model_places import Fault
from reconciler.agent.model_user import unreadable
from reconciler.model.weights import ModelCheck, ModelFault
from tests.agent.fakehost import Content, Denied, FakeHost, Link

PATH = "/srv/models/big"
CACHE = "/srv/huggingface/hub"
HOME = f"{CACHE}/models--org--name"
FETCH = "hf download org/name --cache-dir /srv/huggingface/hub"
CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
IMAGE = "registry.example.net/server@sha256:" + "a" * 64


def at_path(**more: Any) -> dict[str, Any]:
    return ModelCheck.model_validate({"path": PATH, **more}).model_dump(mode="json")


def in_hub(**more: Any) -> dict[str, Any]:
    check = {"path": CACHE, "hub": "org/name", "layout": "hub", "fetch": FETCH, **more}
    return ModelCheck.model_validate(check).model_dump(mode="json")


def below(place: str, files: dict[str, Content]) -> dict[str, Content]:
    return {f"{place}/{name}": content for name, content in files.items()}


def cached(**snapshot: Content) -> dict[str, Content]:
    """Return a cache as the hub's own tools leave it: links to blobs, and a name for the commit."""
    files = below(f"{HOME}/snapshots/abc123", {name.replace("__", "."): text for name, text in snapshot.items()})
    return {f"{HOME}/refs/main": "abc123", f"{HOME}/blobs/1": "w" * 10, **files}


def split(stem: str, ending: str, count: int, *there: int) -> dict[str, Content]:
    """Return some parts, of five bytes each, of a model that was split."""
    return {f"{stem}-{number:05}-of-{count:05}.{ending}": "w" * 5 for number in there}


def index(*names: str, total: object = 40) -> str:
    weights = {f"layer{number}": name for number, name in enumerate(names)}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weights})


def test_a_model_that_is_whole_has_no_fault() -> None:
    template = '{"chat_template": "x"}'
    files: dict[str, Content] = {"config.json": CONFIG, "a.safetensors": "w" * 40, "tokenizer_config.json": template}

    assert fault_of(FakeHost(below(PATH, files)), at_path(memory=40, chat=True)) is None


@pytest.mark.parametrize(
    ("files", "check", "code", "words"),
    [
        ({}, at_path(), "REC7122", "not on the host: /srv/models/big"),
        ({PATH: Link("/mnt/gone")}, at_path(), "REC7122", "not on the host"),
        ({PATH: ""}, at_path(), "REC7406", "/srv/models/big is empty"),
        (below(PATH, {"config.json": ""}), at_path(), "REC7406", "is empty"),
        (below(PATH, {"config.json": CONFIG}), at_path(), "REC7406", "has a configuration and no weights"),
        (
            below(
                PATH, {"model.safetensors.index.json": index("a.safetensors", "b.safetensors"), "a.safetensors": "w"}
            ),
            at_path(),
            "REC7406",
            "/srv/models/big is not whole: missing or empty: b.safetensors (1 in all)",
        ),
        (
            below(PATH, {"model.safetensors.index.json": index("a.safetensors"), "a.safetensors": Link("../gone")}),
            at_path(),
            "REC7406",
            "missing or empty: a.safetensors",
        ),
        (
            below(PATH, {"a.safetensors": "w" * 9}),
            at_path(memory=8),
            "REC7408",
            "are 9 bytes, the service declares memory",
        ),
        (
            below(PATH, {"model.safetensors.index.json": index("a.bin", total=99), "a.bin": "w"}),
            at_path(memory=98),
            "REC7408",
            "are 99 bytes",
        ),
        ({PATH: "w" * 9}, at_path(memory=8), "REC7408", "are 9 bytes"),
        (
            {f"{PATH}-00001-of-00002.gguf": "w" * 5, f"{PATH}-00002-of-00002.gguf": "w" * 5},
            at_path(path=f"{PATH}-00001-of-00002.gguf", memory=9),
            "REC7408",
            "are 10 bytes",
        ),
        (
            split(PATH, "gguf", 5, 1, 2, 4),
            at_path(path=f"{PATH}-00001-of-00005.gguf"),
            "REC7406",
            "/srv/models/big-00001-of-00005.gguf is not whole: "
            "missing or empty: big-00003-of-00005.gguf, big-00005-of-00005.gguf (2 in all)",
        ),
        (
            {**split(PATH, "safetensors", 2, 2), f"{PATH}-00001-of-00002.safetensors": ""},
            at_path(path=f"{PATH}-00002-of-00002.safetensors"),
            "REC7406",
            "missing or empty: big-00001-of-00002.safetensors (1 in all)",
        ),
        (
            split("/srv/models/best-of-n", "gguf", 2, 1),
            at_path(path="/srv/models/best-of-n-00001-of-00002.gguf"),
            "REC7406",
            "missing or empty: best-of-n-00002-of-00002.gguf (1 in all)",
        ),
        (
            split("/srv/models/best-of-n", "gguf", 2, 1, 2),
            at_path(path="/srv/models/best-of-n-00001-of-00002.gguf", memory=9),
            "REC7408",
            "are 10 bytes",
        ),
        (
            split(f"{PATH}/model", "safetensors", 3, 1, 3),
            at_path(),
            "REC7406",
            "/srv/models/big is not whole: missing or empty: model-00002-of-00003.safetensors (1 in all)",
        ),
        (
            {**split(f"{PATH}/q4", "gguf", 2, 1), f"{PATH}/mmproj-f16.gguf": "w"},
            at_path(),
            "REC7406",
            "missing or empty: q4-00002-of-00002.gguf (1 in all)",
        ),
        (
            split(f"{PATH}/model", "safetensors", 9, 1),
            at_path(),
            "REC7406",
            "model-00006-of-00009.safetensors, … (8 in all)",
        ),
        (
            below(PATH, {"a.safetensors": "w", "tokenizer_config.json": "{}"}),
            at_path(chat=True),
            "REC7409",
            "no chat_template.jinja beside it",
        ),
        (
            below(PATH, {"a.safetensors": "w"}),
            at_path(chat=True, template="/srv/models/chat.jinja"),
            "REC7409",
            "the chat template of /srv/models/big is not on the host: /srv/models/chat.jinja",
        ),
        ({}, in_hub(), "REC7410", "org/name is not in the cache /srv/huggingface/hub of the host"),
        (cached(), in_hub(), "REC7410", "revision main is not"),
        (cached(a__safetensors=Link("../../blobs/1")), in_hub(revision="v2"), "REC7410", "revision v2 is not"),
        (cached(config__json=CONFIG), in_hub(), "REC7410", "there are no weights"),
        (cached(a__safetensors=Link("../../blobs/2")), in_hub(), "REC7410", "a.safetensors leads nowhere"),
        ({f"{HOME}/refs/main": "../../../etc"}, in_hub(), "REC7410", "revision main is not"),
    ],
)
def test_what_is_wrong_is_named(files: dict[str, Content], check: dict[str, Any], code: str, words: str) -> None:
    fault = fault_of(FakeHost(files), check)

    assert fault is not None
    assert fault.code == code
    assert words in fault.reason
    assert fault.fix == FETCH if code == "REC7410" else fault.fix


@pytest.mark.parametrize(
    ("files", "check"),
    [
        (cached(a__safetensors=Link("../../blobs/1")), in_hub(memory=10)),
        (cached(a__safetensors=Link("../../blobs/1")), in_hub(revision="abc123")),
        ({PATH: Link("disk/big"), **below("/srv/models/disk/big", {"a.safetensors": "w"})}, at_path()),
        # Two copies of the same weights; Mistral's own format beside the usual one.
        (
            below(PATH, {"consolidated.safetensors": "w" * 8, "a.safetensors": "w" * 8, "a.bin": "w" * 8}),
            at_path(memory=8),
        ),
        # Several quantisations: the server takes one.
        (below(PATH, {"q4.gguf": "w" * 4, "q8.gguf": "w" * 8}), at_path(memory=5)),
        # Loaded in half the size.
        (below(PATH, {"a.safetensors": "w" * 9, "config.json": '{"torch_dtype": "float32"}'}), at_path(memory=5)),
        (below(PATH, {"a.safetensors": "w" * 9}), at_path()),
        (
            below(PATH, {"a.safetensors": "w", "tokenizer_config.json": "{}", "chat_template.jinja": "x"}),
            at_path(chat=True),
        ),
        (below(PATH, {"a.safetensors": "w", "tekken.json": "{}"}), at_path(chat=True)),
        (below(PATH, {"a.safetensors": "w", "tokenizer_config.json": "{}"}), at_path(chat=True, template="-")),
        (
            below(
                PATH, {"a.bin": "w", "tokenizer_config.json": "{}", "config.json": '{"architectures": ["BertModel"]}'}
            ),
            at_path(chat=True),
        ),
        (below(PATH, {"a.safetensors": "w", "config.json": "not json", "tokenizer_config.json": "[]"}), at_path()),
        ({f"{PATH}/checkpoints/sd.safetensors": "w"}, at_path()),
        (split(PATH, "gguf", 2, 1, 2), at_path(path=f"{PATH}-00001-of-00002.gguf", memory=10)),
        # Each is mounted by its own name, wherever it leads.
        (
            {f"{PATH}-00001-of-00002.gguf": Link("/data/a"), f"{PATH}-00002-of-00002.gguf": Link("/data/a")}
            | {"/data/a": "w" * 5},
            at_path(path=f"{PATH}-00001-of-00002.gguf", memory=10),
        ),
        # What the index does not name is not loaded; of several GGUF files one is.
        (
            {
                **split(f"{PATH}/old", "safetensors", 3, 1),
                **below(PATH, {"model.safetensors.index.json": index("a.safetensors"), "a.safetensors": "w"}),
            },
            at_path(),
        ),
        ({**split(f"{PATH}/q8", "gguf", 2, 1), **split(f"{PATH}/q4", "gguf", 2, 1, 2)}, at_path(memory=10)),
        ({f"{PATH}-00003-of-00002.gguf": "w"}, at_path(path=f"{PATH}-00003-of-00002.gguf")),
        ({f"{PATH}-00001-of-99999.gguf": "w"}, at_path(path=f"{PATH}-00001-of-99999.gguf")),
    ],
)
def test_what_can_be_loaded_is_left_alone(files: dict[str, Content], check: dict[str, Any]) -> None:
    assert fault_of(FakeHost(files), check) is None


class Linked(FakeHost):
    """A host whose links may be relative, in the middle of a path too, as a kernel follows them."""

    def _real(self, path: str) -> str:
        at = ""
        rest = path.split("/")
        for _ in range(100):
            if not rest:
                return at
            name = rest.pop(0)
            if name in ("", ".", ".."):
                at = at.rpartition("/")[0] if name == ".." else at
                continue
            content = self.files.get(f"{at}/{name}")
            if isinstance(content, Link):
                at, rest = "" if content.startswith("/") else at, content.split("/") + rest
            else:
                at = f"{at}/{name}"
        return path


SNAPSHOT = f"{HOME}/snapshots/abc123"


@pytest.mark.parametrize(
    ("files", "check", "name", "out"),
    [
        (
            cached(a__safetensors=Link("../../blobs/1")),
            at_path(path=SNAPSHOT),
            f"{SNAPSHOT}/a.safetensors",
            f"{HOME}/blobs",
        ),
        ({f"{PATH}/a.bin": Link("/data/a.bin"), "/data/a.bin": "w"}, at_path(), f"{PATH}/a.bin", "/data"),
        # A chain, and a directory on the way.
        (
            {f"{PATH}/a.bin": Link("b.bin"), f"{PATH}/b.bin": Link("../big2/c.bin"), "/srv/models/big2/c.bin": "w"},
            at_path(),
            f"{PATH}/a.bin",
            "/srv/models/big2",
        ),
        (
            {f"{PATH}/a.bin": Link("sub/a.bin"), f"{PATH}/sub": Link("/data"), "/data/a.bin": "w"},
            at_path(),
            f"{PATH}/a.bin",
            "/data",
        ),
        # By the name that the place has on the host alone.
        (
            {PATH: Link("/data/big"), "/data/big/a.bin": Link("/data/big/b.bin"), "/data/big/b.bin": "w"},
            at_path(),
            f"{PATH}/a.bin",
            "/data",
        ),
    ],
)
def test_a_file_that_is_a_link_out_of_what_is_mounted_is_refused(
    files: dict[str, Content], check: dict[str, Any], name: str, out: str
) -> None:
    fix = f"give a model of a hub's cache as 'hub:', or copy the files themselves: cp -rL {check['path']} NEW"
    text = f"{name} is a link that leads out of what is mounted, to {out}"

    assert fault_of(Linked(files), check) == Fault("REC7406", text, fix)


@pytest.mark.parametrize(
    ("files", "check"),
    [
        ({f"{PATH}/a.bin": Link("b.bin"), f"{PATH}/b.bin": Link(f"{PATH}/c.bin"), f"{PATH}/c.bin": "w"}, at_path()),
        ({f"{PATH}/a.bin": Link("../big/c.bin"), f"{PATH}/c.bin": "w"}, at_path()),
        ({PATH: Link("/data/big"), "/data/big/a.bin": Link("b.bin"), "/data/big/b.bin": "w"}, at_path()),
        ({f"{PATH}/a.bin": Link("/data/a.bin"), "/data/a.bin": "w"}, at_path(beside=("/data",))),
        (cached(a__safetensors=Link("../../blobs/1")), at_path(path=SNAPSHOT, beside=(HOME,))),
        ({f"{PATH}/a.bin": "w", f"{PATH}/README": Link("/gone")}, at_path()),
    ],
)
def test_a_link_that_its_container_can_follow_is_as_good_as_a_file(
    files: dict[str, Content], check: dict[str, Any]
) -> None:
    assert fault_of(Linked(files), check) is None


def test_llama_cpp_finds_its_models_in_its_own_cache_or_in_that_of_the_hub() -> None:
    check = in_hub(hub="org/name:q4", layout="llama")
    own: dict[str, Content] = {f"{CACHE}/manifest=org=name=q4.json": "{}", f"{CACHE}/org_name_model-q4.gguf": "w"}

    assert fault_of(FakeHost(own), check) is None
    assert fault_of(FakeHost(cached(a__gguf=Link("../../blobs/1"))), check) is None
    fault = fault_of(FakeHost({f"{CACHE}/org_name_model-q4.gguf": "w"}), check)
    assert fault is not None
    assert fault.code == "REC7410"


def test_a_model_of_ollama_is_its_manifest_and_all_its_blobs() -> None:
    check = in_hub(path="/srv/ollama/models", hub="library/llama3:70b", layout="ollama")
    manifest = json.dumps({"layers": [{"digest": "sha256:ab", "size": 4}]})
    files: dict[str, Content] = {"/srv/ollama/models/manifests/registry.ollama.ai/library/llama3/70b": manifest}

    assert fault_of(FakeHost({**files, "/srv/ollama/models/blobs/sha256-ab": "wwww"}), check) is None
    for broken in ({}, {"/srv/ollama/models/blobs/sha256-ab": "www"}):
        fault = fault_of(FakeHost({**files, **broken}), check)
        assert fault is not None
        assert "blobs/sha256-ab is not there, or not whole" in fault.reason
    assert fault_of(FakeHost(), check) == Fault(
        "REC7410", "library/llama3:70b is not in the store /srv/ollama/models of the host", FETCH
    )


def test_the_faults_of_an_observation_are_what_the_schema_says() -> None:
    found = faults(
        FakeHost(below(PATH, {"a.bin": "w"})), [{"unit": "a", "check": at_path()}, {"unit": "b", "check": in_hub()}]
    )

    assert [ModelFault.model_validate(each).unit for each in found] == ["b"]


def test_each_part_of_a_split_file_is_asked_who_may_read_it() -> None:
    class Host(FakeHost):
        def stat(self, path: str) -> Any:
            found = super().stat(path)
            closed = found and path.endswith("-00002-of-00002.gguf")
            return found._replace(mode=0o600) if found and closed else found

    argv = ("podman", "image", "inspect", "--format", "{{.Config.User}}", IMAGE)
    host = Host(split(PATH, "gguf", 2, 1, 2), programs={argv: Completed(0, b"1000\n", b"")})
    second = f"{PATH}-00002-of-00002.gguf"

    assert unreadable(host, at_path(path=f"{PATH}-00001-of-00002.gguf"), IMAGE) == Fault(
        "REC7407", f"{second} cannot be read by user 1000 of the container", f"chmod a+rX {second}"
    )


class Owned(FakeHost):
    """A host on which the files of a model belong to user 1000 and have a mode."""

    def __init__(self, mode: int, user: str, **more: Any) -> None:
        argv = ("podman", "image", "inspect", "--format", "{{.Config.User}}", IMAGE)
        super().__init__(below(PATH, {"a.safetensors": "w"}), programs={argv: Completed(0, f"{user}\n".encode(), b"")})
        self.mode = mode
        self.files.update(more)

    def stat(self, path: str) -> Any:
        found = super().stat(path)
        return found._replace(mode=self.mode, uid=1000) if found and found.kind == "file" else found


@pytest.mark.parametrize(
    ("mode", "user", "is_refused"),
    [
        (0o600, "", False),
        (0o600, "root", False),
        (0o600, "0:0", False),
        (0o600, "1000", False),
        (0o200, "1000", True),
        (0o600, "1001:1001", True),
        (0o640, "1001", False),
        (0o604, "1001", False),
        (0o600, "vllm", False),
    ],
)
def test_whether_the_user_of_the_container_can_read_it(mode: int, user: str, is_refused: bool) -> None:
    fault = unreadable(Owned(mode, user), at_path(), IMAGE)

    if is_refused:
        uid = user.partition(":")[0]
        text = f"{PATH}/a.safetensors cannot be read by user {uid} of the container"
        assert fault == Fault("REC7407", text, f"chmod a+rX {PATH}/a.safetensors")
    else:
        assert fault is None


def test_what_root_itself_cannot_read_lies_on_a_server_that_takes_it_for_nobody() -> None:
    host = Owned(0o600, "")
    host.files[f"{PATH}/a.safetensors"] = Denied("w")

    fault = unreadable(host, at_path(), IMAGE)

    assert fault is not None
    assert fault.reason == f"{PATH}/a.safetensors cannot be read by root"


class Rootless(Owned):
    """The same host to an agent that runs as its user 1000."""

    own_login = "solo"
    own_uid = 1000


RANGES = {"/etc/subuid": "duo:100000:65536\nsolo:200000:1000\n1000:300000:5\n"}


@pytest.mark.parametrize(
    ("owner", "user", "is_refused"),
    [
        (1000, "", False),
        (1000, "1000", True),
        (200999, "1000", False),
        (200998, "1000", True),
        (300000, "1001", False),
        (1000, "1006", False),
    ],
)
def test_without_root_the_user_of_a_container_is_another_one_on_the_host(
    owner: int, user: str, is_refused: bool
) -> None:
    class Host(Rootless):
        def stat(self, path: str) -> Any:
            found = super().stat(path)
            return found._replace(uid=owner) if found and found.kind == "file" else found

    fault = unreadable(Host(0o600, user, **RANGES), at_path(), IMAGE)

    assert (fault is not None) == is_refused
    if fault is not None:
        assert fault.reason == f"{PATH}/a.safetensors cannot be read by user {user} of the container"


@pytest.mark.parametrize("user", ["", "root", "0", "root:root"])
@pytest.mark.parametrize(("mode", "owner", "is_refused"), [(0o600, 1000, False), (0o600, 0, True), (0o640, 0, False)])
def test_without_root_the_root_of_a_container_reads_no_more_than_the_login(
    user: str, mode: int, owner: int, is_refused: bool
) -> None:
    class Host(Rootless):
        def stat(self, path: str) -> Any:
            found = super().stat(path)
            is_weights = found is not None and path.endswith("/model.safetensors")
            return found._replace(uid=owner, mode=mode) if found and is_weights else found

    weights = f"{PATH}/model.safetensors"
    host = Host(0o644, user, **{f"{PATH}/config.json": CONFIG, weights: "w"})
    fault = Fault(
        "REC7407",
        f"{weights} cannot be read by root of the container, which is solo on the host",
        f"chmod a+rX {weights}",
    )

    assert unreadable(host, at_path(), IMAGE) == (fault if is_refused else None)


@pytest.mark.parametrize(("user", "rc"), [("vllm", 0), ("", 125)])
def test_without_root_nobody_is_refused_whose_number_is_not_known(user: str, rc: int) -> None:
    host = Rootless(0o600, user)
    host.programs = {argv: done._replace(rc=rc) for argv, done in host.programs.items()}
    host.own_uid = 1001

    assert unreadable(host, at_path(), IMAGE) is None


def test_without_the_ranges_nobody_is_refused() -> None:
    assert unreadable(Rootless(0o600, "1000"), at_path(), IMAGE) is None
