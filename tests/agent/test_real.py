"""This computer behind the seam: what a call promises holds on a real file system and for real programs."""

from __future__ import annotations

import contextlib
import errno
import http.server
import os
import re
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.agent import durable
from reconciler.agent.machine import BusyError, Completed, Response, Stat
from reconciler.agent.real import RealMachine

PYTHON = "/usr/bin/python3"


@pytest.fixture
def machine() -> RealMachine:
    return RealMachine()


def test_a_written_file_has_its_bytes_and_mode_and_leaves_nothing_beside_it(
    machine: RealMachine, tmp_path: Path
) -> None:
    path = str(tmp_path / "a")
    machine.write(path, b"one", 0o600)
    machine.write(path, b"two", 0o640)

    assert machine.read(path) == b"two"
    assert machine.stat(path) == Stat("file", 3, 0o640, os.getuid(), Path(path).stat().st_mtime_ns)
    assert machine.listdir(str(tmp_path)) == ["a"]


def test_a_write_replaces_a_link_and_never_goes_through_it(machine: RealMachine, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(target)

    machine.write(str(link), b"new")

    assert target.read_text() == "precious"
    assert (machine.read(str(link)), link.is_symlink()) == (b"new", False)


def test_a_failed_write_leaves_the_old_file_and_no_temporary(machine: RealMachine, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="directory"):
        machine.write(str(tmp_path / "taken"), b"x")

    assert machine.listdir(str(tmp_path)) == ["taken"]


def test_appending_and_locking_do_not_follow_a_link(machine: RealMachine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        machine.append(str(tmp_path / "link"), b"x")
    with pytest.raises(OSError, match="symbolic links"), machine.lock(str(tmp_path / "link")):
        pass

    assert machine.listdir(str(tmp_path)) == ["link"]


def test_a_file_of_the_kernel_is_written_as_it_stands_and_never_made(machine: RealMachine, tmp_path: Path) -> None:
    path = tmp_path / "drop_caches"
    path.write_text("0")
    before = path.stat().st_ino
    machine.poke(str(path), b"3")
    with pytest.raises(FileNotFoundError):
        machine.poke(str(tmp_path / "absent"), b"3")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        machine.poke(str(tmp_path / "link"), b"1")

    assert (path.read_text(), path.stat().st_ino) == ("3", before)
    assert machine.listdir(str(tmp_path)) == ["drop_caches", "link"]


def test_a_call_to_this_host_comes_from_the_agents_own_address(machine: RealMachine) -> None:
    class Who(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.client_address[0].encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Who)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answer = machine.http("GET", f"http://127.0.0.1:{server.server_port}/", 3.0)
    finally:
        server.shutdown()
        server.server_close()

    assert answer == Response(200, b"127.82.69.67")


def test_appended_bytes_follow_each_other(machine: RealMachine, tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    machine.append(path, b"one\n")
    machine.append(path, b"two\n")

    assert machine.read(path) == b"one\ntwo\n"


def test_a_link_is_replaced_in_one_step(machine: RealMachine, tmp_path: Path) -> None:
    path = str(tmp_path / "recon")
    machine.symlink("/etc/recon/generations/1", path)
    machine.symlink("/etc/recon/generations/2", path)

    assert machine.read_link(path) == "/etc/recon/generations/2"
    assert machine.stat(path) == Stat("link", 24, 0o777, os.getuid(), Path(path).lstat().st_mtime_ns)
    assert machine.listdir(str(tmp_path)) == ["recon"]


def test_removing_what_is_not_there_is_no_error(machine: RealMachine, tmp_path: Path) -> None:
    machine.write(str(tmp_path / "a"), b"")

    for _ in range(2):
        machine.remove(str(tmp_path / "a"))
        machine.remove_tree(str(tmp_path / "tree"))

    assert machine.stat(str(tmp_path / "a")) is None


def test_a_tree_is_removed_without_following_links_out_of_it(machine: RealMachine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    machine.mkdir(str(outside))
    machine.write(str(outside / "kept"), b"")
    machine.mkdir(str(tmp_path / "tree/deep"), 0o700)
    (tmp_path / "tree/link").symlink_to(outside)

    machine.remove_tree(str(tmp_path / "tree"))

    assert machine.listdir(str(tmp_path)) == ["outside"]
    assert machine.listdir(str(outside)) == ["kept"]


def test_directories_are_made_with_their_parents_and_mode(machine: RealMachine, tmp_path: Path) -> None:
    path = str(tmp_path / "a/b/c")
    machine.mkdir(path, 0o700)
    machine.mkdir(path, 0o755)

    found = machine.stat(path)
    assert found is not None
    assert (found.kind, found.mode) == ("dir", 0o700)


def test_reading_is_limited_and_a_pipe_is_no_file(machine: RealMachine, tmp_path: Path) -> None:
    machine.write(str(tmp_path / "a"), b"0123456789")
    os.mkfifo(tmp_path / "pipe")

    assert machine.read(str(tmp_path / "a"), 4) == b"0123"
    with pytest.raises(OSError, match="not a regular file"):
        machine.read(str(tmp_path / "pipe"))
    with pytest.raises(FileNotFoundError):
        machine.read(str(tmp_path / "none"))


def test_a_process_is_read_through_proc(machine: RealMachine) -> None:
    assert machine.read(f"/proc/{os.getpid()}/cmdline").split(b"\0")[0] != b""
    with pytest.raises(FileNotFoundError):
        machine.read("/proc/4194305/stat")


def test_a_lock_is_held_by_one_and_given_back(machine: RealMachine, tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with machine.lock(path), pytest.raises(BusyError), RealMachine().lock(path):
        pass
    with machine.lock(path):
        pass


def test_a_program_gets_its_stdin_and_its_streams_are_told_apart(machine: RealMachine) -> None:
    code = "import sys; data = sys.stdin.read(); print(len(data)); sys.stderr.write('err'); sys.exit(3)"

    assert machine.run([PYTHON, "-c", code], 30, stdin=b"x" * 300_000) == Completed(3, b"300000\n", b"err")


def test_a_program_runs_in_a_fixed_environment(machine: RealMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_LIKE", "evil")

    done = machine.run(["/usr/bin/env"], 30, env={"QUADLET_UNIT_DIRS": "/x"})

    assert sorted(done.out.split(b"\n")) == [
        b"",
        b"HOME=/root",
        b"LC_ALL=C.UTF-8",
        b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"QUADLET_UNIT_DIRS=/x",
    ]


def test_a_program_that_is_not_there_is_127(machine: RealMachine) -> None:
    assert machine.run(["/no/such"], 5) == Completed(127, b"", b"/no/such: No such file or directory")


def test_a_program_has_a_session_of_its_own_and_no_signal_that_the_agent_ignores(machine: RealMachine) -> None:
    code = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"
    ours = {signal.SIGPIPE, signal.SIGXFSZ}  # an interpreter ignores these two

    shown = machine.run(["grep", "SigIgn", "/proc/self/status"], 30).out.split()[1]
    ignored = {number for number in ours if int(shown, 16) >> (number - 1) & 1}

    assert (machine.run([PYTHON, "-c", code], 30), ignored) == (Completed(0, b"True\n", b""), set())
    assert {signal.getsignal(number) for number in ours} == {signal.SIG_IGN}


def test_a_program_that_a_signal_ends_says_which(machine: RealMachine) -> None:
    assert machine.run(["/bin/sh", "-c", "echo out; kill -9 $$"], 30) == Completed(-9, b"out\n", b"")


def test_past_its_deadline_a_program_is_killed_with_its_children(machine: RealMachine) -> None:
    code = (
        "import os,sys,time\npid = os.fork()\n"
        "if pid: print(pid, flush=True)\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    )

    done = machine.run([PYTHON, "-c", code], 1.0)

    assert (done.rc, done.err) == (124, b"\nrecon: killed at its deadline")
    assert has_ended(int(done.out))


def has_ended(pid: int) -> bool:
    """Wait for a process that was killed to be gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


def test_a_daemon_that_keeps_the_pipe_open_is_not_waited_for(machine: RealMachine) -> None:
    code = (
        "import os,sys,time\nif os.fork(): print('parent'); sys.exit(0)\nprint(os.getpid(), flush=True); time.sleep(60)"
    )

    done = machine.run([PYTHON, "-c", code], 30)
    words = done.out.split()
    os.kill(int(next(word for word in words if word.isdigit())), signal.SIGKILL)

    assert (done.rc, b"parent" in words) == (0, True)


def test_output_is_capped_and_the_program_still_ends(machine: RealMachine) -> None:
    done = machine.run([PYTHON, "-c", "import sys; sys.stdout.write('x' * (9 << 20))"], 60)

    assert (done.rc, len(done.out)) == (0, 8 << 20)


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what was asked, redirects, or never finishes."""

    def do_GET(self) -> None:
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/drip":
            self.server.released.wait(30)  # type: ignore[attr-defined]
            return
        self.wfile.write(b"hello" if self.path == "/" else self.path.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(418)
        self.end_headers()
        self.wfile.write((self.headers["Content-Type"] or "").encode() + b" " + body)

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_http_asks_reads_and_posts_json(machine: RealMachine, address: str) -> None:
    assert machine.http("GET", address, 5) == Response(200, b"hello")
    assert machine.http("GET", f"{address}/a?b=c", 5, limit=4) == Response(200, b"/a?b", cut=True)
    assert machine.http("POST", f"{address}/", 5, body=b"{}") == Response(418, b"application/json {}")


def test_http_follows_no_redirect_and_uses_no_proxy(
    machine: RealMachine, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:1")

    assert machine.http("GET", f"{address}/redirect", 5) == Response(302, b"")


def test_an_answer_that_never_ends_is_no_answer(machine: RealMachine, address: str) -> None:
    assert machine.http("GET", f"{address}/drip", 0.2).status == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/", b"[Errno 111] Connection refused"),
        ("file:///etc/passwd", b"not an http address"),
        ("http://127.0.0.1:notaport/", b"Port could not be cast to integer value as 'notaport'"),
        ("http://127.0.0.1:1/a\r\nX: y", None),
    ],
)
def test_no_answer_says_why(machine: RealMachine, url: str, reason: bytes | None) -> None:
    answer = machine.http("GET", url, 5)

    assert answer.status == 0
    assert reason is None or answer.body == reason


@contextlib.contextmanager
def saying(*pieces: bytes) -> Iterator[str]:
    """Answer one connection with these bytes, and close it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics"
        thread.join()


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"], Response(200, b"hello")),
        ([b"HTTP/1.1 204 No Content\r\n\r\nnothing"], Response(204, b"")),
        ([b"HTTP/1.0 503 Down\r\n\r\nwhy", b" not"], Response(503, b"why not")),
        ([b"HTTP/1.1 200\ncontent-length:0\n\n"], Response(200, b"")),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"], Response(200, b"1")),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n", b"2\r\nlo\r\n0\r\n\r\n"],
            Response(200, b"hello"),
        ),
    ],
)
def test_an_answer_is_read_by_what_it_tells_of_its_length(
    machine: RealMachine, pieces: list[bytes], answer: Response
) -> None:
    with saying(*pieces) as url:
        assert machine.http("GET", url, 5) == answer


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_answer_that_is_longer_than_what_is_read_says_that_it_was_cut(machine: RealMachine, head: bytes) -> None:
    with saying(head + b"hello, world") as url:
        assert machine.http("GET", url, 5, limit=5) == Response(200, b"hello", cut=True)
    with saying(head + b"hello, world") as url:
        assert machine.http("GET", url, 5, limit=13) == Response(200, b"hello, world")


def test_an_answer_of_just_the_length_that_is_read_is_whole(machine: RealMachine) -> None:
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as url:
        assert machine.http("GET", url, 5, limit=5) == Response(200, b"hello")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80_000,
    ],
)
def test_an_answer_that_is_not_whole_is_none(machine: RealMachine, said: bytes) -> None:
    with saying(said) as url:
        assert machine.http("GET", url, 5).status == 0


def test_calls_run_at_the_same_time_and_answer_in_order(machine: RealMachine) -> None:
    both = threading.Barrier(2, timeout=30)

    assert machine.parallel([lambda: (both.wait(), "one")[1], lambda: (both.wait(), "two")[1]]) == ["one", "two"]


def test_a_call_that_was_begun_runs_beside_its_caller(machine: RealMachine) -> None:
    going_on = threading.Event()
    begun = machine.begin(lambda: going_on.wait(30) and "answered")

    assert not begun.done()
    going_on.set()
    while not begun.done():
        machine.sleep(0.01)
    assert begun.result() == "answered"


def test_what_a_call_that_was_begun_raises_is_raised_by_its_result(machine: RealMachine) -> None:
    begun = machine.begin(lambda: 1 // 0)

    while not begun.done():
        machine.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        begun.result()


def test_the_first_exception_comes_after_all_have_ended(machine: RealMachine) -> None:
    ended: list[str] = []

    with pytest.raises(ZeroDivisionError):
        machine.parallel([lambda: 1 // 0, lambda: ended.append("two")])

    assert ended == ["two"]


def test_clocks_run(machine: RealMachine) -> None:
    before = machine.monotonic()
    machine.sleep(0)

    assert machine.monotonic() >= before
    assert machine.boottime() > 0
    assert machine.wall() > 1_600_000_000
    assert machine.free_bytes("/") > 0


class Full(durable.System):
    """A disk that takes a name and no more bytes."""

    def write(self, fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("change", ["write", "append"])
def test_a_disk_that_is_full_says_for_which_file(tmp_path: Path, change: str) -> None:
    machine = RealMachine(Full())
    path = str(tmp_path / "epoch")

    with pytest.raises(OSError, match="No space left on device") as caught:
        getattr(machine, change)(path, b"1")

    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, path)


def test_whatever_is_there_is_moved_to_another_name(tmp_path: Path) -> None:
    place = tmp_path / "epoch"
    place.mkdir()
    (place / "notes").write_text("somebody's", encoding="utf-8")

    RealMachine().rename(str(place), str(tmp_path / "epoch.corrupt-1"))

    assert not place.exists()
    assert (tmp_path / "epoch.corrupt-1" / "notes").read_text(encoding="utf-8") == "somebody's"


def test_a_secret_is_long_fit_for_a_command_line_and_never_the_same(machine: RealMachine) -> None:
    found = {machine.secret() for _ in range(50)}

    assert len(found) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in found)
