"""The life of the model server: GPU memory, loading, crashes, signals.

Must not: know what any endpoint looks like.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn

from .engine import Engine, Faults

GPU_SOCKET = "/run/lab-gpu/gpud.sock"


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S ") + text, file=sys.stderr, flush=True)


def die(text: str, code: int = 1) -> NoReturn:
    say(text)
    os._exit(code)


class Server:
    """What every runtime shares: options, GPU memory, loading, faults, signals."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.runtime = options.runtime
        self.port = options.port or (8080 if options.runtime == "llamacpp" else 8000)
        self.model = options.served_model_name or options.model or "model"
        self.faults = Faults(self.port)
        width = options.parallel or (4 if self.runtime == "llamacpp" else options.max_num_seqs)
        self.engine = Engine(width, float(os.environ.get("LAB_TOKEN_MS", "20")) / 1000)
        self.loaded = threading.Event()
        self.started = time.time()
        self.gpu_connections: list[socket.socket] = []

    # -- loading ---------------------------------------------------------------------------------------------------

    def take_memory(self) -> None:
        """Ask the lab's GPU daemon for memory on every GPU of the container; die as CUDA programs do when refused."""
        size = int(os.environ.get("LAB_GPU_BYTES", "0"))
        if not size:
            return
        gpus = sorted(int(name[8:]) for name in os.environ if name.startswith("LAB_GPU_") and name[8:].isdigit())
        if not gpus or not os.path.exists(GPU_SOCKET):
            die("RuntimeError: No CUDA GPUs are available")
        for gpu in gpus:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(GPU_SOCKET)
            connection.sendall(json.dumps({"alloc": size // len(gpus), "gpu": gpu}).encode() + b"\n")
            reply = json.loads(connection.makefile().readline() or '{"error": "CUDA error: device lost"}')
            if "error" in reply:
                die("torch.OutOfMemoryError: " + reply["error"])
            self.gpu_connections.append(connection)
            threading.Thread(target=self.watch_gpu, args=(connection,), daemon=True).start()

    def watch_gpu(self, connection: socket.socket) -> None:
        if not connection.recv(1):
            die("RuntimeError: CUDA error: an illegal memory access was encountered")

    def load(self) -> None:
        if self.faults.get("crash-at-start"):
            die("ValueError: cannot load model %s: config.json is not valid" % self.model)
        if self.options.model and self.options.model.startswith("/") and not os.path.exists(self.options.model):
            die("OSError: %s does not exist" % self.options.model)
        self.take_memory()
        say("loading %s" % self.model)
        time.sleep(float(os.environ.get("LAB_LOAD_S", "0.2")))
        while self.faults.get("never-healthy"):
            time.sleep(0.2)
        self.loaded.set()
        say("%s is ready on port %d" % (self.model, self.port))
        threading.Thread(target=self.watch_faults, args=(time.time(),), daemon=True).start()

    def watch_faults(self, ready: float) -> NoReturn:
        while True:
            for name, since in (("crash-after", self.started), ("crash-after-ready", ready)):
                seconds = self.faults.get(name)
                if seconds and time.time() - since >= (0 if seconds is True else seconds):
                    die("RuntimeError: Engine core died unexpectedly")
            time.sleep(0.2)

    # -- ending ----------------------------------------------------------------------------------------------------

    def terminate(self, *_signal: object) -> None:
        """SIGTERM: SGLang and TGI finish what runs, vLLM with --shutdown-timeout, others stop; faults make it worse."""
        if self.faults.get("sigterm-ignore"):
            say("SIGTERM ignored")
            return
        threading.Thread(target=self.end).start()

    def end(self) -> None:
        slow = self.faults.get("sigterm-slow")
        if slow:
            time.sleep(slow)
        grace = {
            "sglang": threading.TIMEOUT_MAX,
            "tgi": self.options.graceful_termination_timeout,
            "vllm": self.options.shutdown_timeout,
        }.get(self.runtime)
        if grace:
            self.engine.closing = True
            self.engine.drain(grace)
        die("shutting down, %d requests aborted" % (self.engine.running + self.engine.waiting), code=0)

    # -- figures ---------------------------------------------------------------------------------------------------

    def figures(self) -> tuple[int, int]:
        """Return (running, waiting) as the runtime would show them."""
        stuck = 1 if self.faults.get("stuck-busy") else 0
        return self.engine.running + stuck, self.engine.waiting

    def model_id(self) -> str:
        return "another-model" if self.faults.get("wrong-model") else self.model

    def run(self, handler: type[BaseHTTPRequestHandler]) -> None:
        """Serve until SIGTERM; the handler is told which server it answers for."""
        signal.signal(signal.SIGTERM, self.terminate)
        signal.signal(signal.SIGINT, self.terminate)
        handler.lab = self  # type: ignore[attr-defined]  # every runtime's handler has it
        ThreadingHTTPServer.request_queue_size = 128
        ThreadingHTTPServer.allow_reuse_address = True
        loader = threading.Thread(target=self.load, daemon=True)
        loader.start()
        if self.runtime in ("vllm", "comfyui", "tgi"):
            # The real ones open their port when the engine is up, not before.
            while not self.loaded.wait(0.1):
                pass
        try:
            server = ThreadingHTTPServer((self.options.host, self.port), handler)
        except OSError as problem:
            die("OSError: [Errno %s] error while attempting to bind on address: %s" % (problem.errno, problem.strerror))
        server.daemon_threads = True
        server.serve_forever()
