"""The nodes and Redis servers of the soak and of the attacks, on free loopback ports, stopped at exit.

A server can be stopped and started again on its port. Loads and attacks are in the programs that import this module.
"""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "admin-token-of-the-tests"
# Longer than a start on a busy machine: a debug build beside other builds.
START_SECONDS = 60


# Below the ports that Linux draws for connections, so no connection takes one before or between uses. Programs that
# run side by side begin at different ports.
PORTS = iter(range(10_000 + os.getpid() * 7919 % 11_000, 32_000))


def free_port():
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("all ports were tried")


def binary():
    return os.environ.get("TOLLGATE", str(ROOT / "target/release/tollgate"))


class Process:
    """A program with a folder of its own. Its output is in the file `log` of that folder."""

    def __init__(self, command, environment=None):
        self.command, self.environment = command, {**os.environ, **(environment or {})}
        self.process = None
        atexit.register(self.remove)

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_until_ready()

    def wait_until_ready(self):
        until = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended: {self.log()[-2000:]}")
            if time.monotonic() > until:
                raise RuntimeError(f"{self.command[0]} is not ready: {self.log()[-2000:]}")
            time.sleep(0.02)

    def stop(self, kind=signal.SIGTERM):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(kind)
        return self.process.wait(START_SECONDS)

    def is_alive(self):
        return self.process.poll() is None

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def status(self):
        """RSS in MiB, open files and threads, as the kernel counts them."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        number = lambda name: int(re.search(rf"{name}:\s+(\d+)", text)[1])
        return {
            "RSS, MiB": number("VmRSS") / 1024,
            "fds": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "threads": number("Threads"),
        }


class Redis(Process):
    """A redis-server that keeps every write in its append-only file. The file is in memory where the system has a
    folder for it: Redis stops for seconds where others keep a disk busy, which is not the subject here."""

    def __init__(self, *flags):
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.dir, self.port = pathlib.Path(tempfile.mkdtemp(prefix="redis-", dir=memory)), free_port()
        super().__init__(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir), "--save", "",
                          "--appendonly", "yes", "--maxmemory-policy", "noeviction", *flags])
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def command_line(self, *words):
        return subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, errors="replace").stdout.strip()

    def is_ready(self):
        return self.command_line("PING") == "PONG"

    def memory_mib(self):
        """Memory of the data, which a restart reads again: `used_memory` without buffers of clients."""
        return int(re.search(r"used_memory_dataset:(\d+)", self.command_line("INFO", "memory"))[1]) / 2**20


class Node(Process):
    """A node with all its listeners. Its catalog is the file `catalog.yaml` of its folder, unless flags say another."""

    def __init__(self, *flags, catalog=None, envoy=None, environment=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="node-"))
        self.http, self.grpc, self.admin, self.ops = (free_port() for _ in range(4))
        at = lambda port: f"127.0.0.1:{port}"
        command = [binary(), "serve", "--listen", at(self.http), "--listen-grpc", at(self.grpc), "--listen-admin", at(self.admin),
                   "--listen-ops", at(self.ops), "--workers", "2", "--drain-delay", "0s", *flags]
        if catalog:
            (self.dir / "catalog.yaml").write_text(catalog)
            command += ["--catalog", str(self.dir / "catalog.yaml")]
        if envoy:
            (self.dir / "envoy").mkdir()
            (self.dir / "envoy/limits.yaml").write_text(envoy)
            command += ["--envoy-config", str(self.dir / "envoy")]
        super().__init__(command, {"TOLLGATE_ADMIN_TOKEN": ADMIN_TOKEN, "RUST_LOG": "tollgate=info", **(environment or {})})
        self.start()

    def is_ready(self):
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None, port=None, timeout=10):
        """Status and body, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=timeout)
        try:
            text = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, text, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def check(self, body):
        status, text = self.request("POST", "/check", body)
        return status, json.loads(text)

    def administer(self, method, path, body=None):
        """Status and JSON of a request of the admin API."""
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"}
        status, text = self.request(method, path, body, headers, self.admin, timeout=30)
        return status, json.loads(text) if text else None

    def fill(self, policy, count):
        """Checks `count` keys once, in batches of a thousand."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        for first in range(0, count, 1000):
            checks = ",".join(f'{{"policy":"{policy}","key":"k{key}"}}' for key in range(first, min(first + 1000, count)))
            connection.request("POST", "/check/batch", f'{{"checks":[{checks}]}}', {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            if response.status != 200 or text.count(b'"status":200') != text.count(b'"status":'):
                raise RuntimeError(f"a batch was answered with {response.status}: {text[:300]}")
        connection.close()

    def metric(self, name, labels=""):
        """The value of a metric, summed over all label sets that contain `labels`."""
        return sum(float(row.rsplit(" ", 1)[1]) for row in self.rows(name) if labels in row)

    def rows(self, name):
        """The values of a metric as the node writes them, with their labels."""
        text = self.request("GET", "/metrics", port=self.ops)[1].decode()
        return [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
