"""The measured servers and their load: started on free loopback ports, stopped at exit.

The measurements are in the programs that import this module.
"""

import atexit
import http.client
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, **options):
    """Starts a process that is terminated when this one exits."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    atexit.register(lambda: (process.terminate(), process.wait()))
    return process


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


class Redis:
    """A redis-server without persistence, and its statistics."""

    def __init__(self):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        self.process = start(
            ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", self.dir.name, "--loglevel", "warning"])
        wait_for(self.port)

    def cli(self, *words):
        return subprocess.check_output(["redis-cli", "-p", str(self.port), *words], text=True)

    def reset(self):
        self.cli("CONFIG", "RESETSTAT")

    def scripts(self):
        """Script calls and their microseconds since the last reset."""
        calls = micros = 0
        for line in self.cli("INFO", "commandstats").splitlines():
            if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:")):
                fields = dict(field.split("=") for field in line.split(":")[1].split(","))
                calls += int(fields["calls"])
                micros += int(fields["usec"])
        return calls, micros


class Service:
    def __init__(self, binary, *flags, **env):
        self.port = free_port()
        self.process = start(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--drain-delay", "0s",
             "--check-deadline", "1s", "--catalog", str(HERE / "catalog.yaml"), *flags],
            env={**os.environ, "RUST_LOG": "warn", **env})
        wait_for(self.port)


class Throttlecrab:
    """throttlecrab's server, if it is installed (cargo install throttlecrab-server)."""

    BODY = '{"key":"user:%d","max_burst":1000000,"count_per_period":20,"period":1}'

    def __init__(self, binary):
        self.port = free_port()
        self.process = start(
            [binary, "--http", "--http-host", "127.0.0.1", "--http-port", str(self.port), "--log-level", "error"],
            stderr=subprocess.DEVNULL)
        wait_for(self.port)


def wrk(port, connections, seconds, script="check.lua", **env):
    """One load: checks (or bodies, or what else the script counts) per second, p50 and p99 in milliseconds."""
    out = subprocess.check_output(
        ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s",
         "-s", str(HERE / script), f"http://127.0.0.1:{port}"],
        env={**os.environ, **{key: str(value) for key, value in env.items()}}, text=True)
    line = next(line for line in out.splitlines() if line.startswith("RESULT"))
    requests, micros, p50, p99, bad, errors = map(int, line.split()[1:])
    if bad or errors:
        print(f"  {bad} unexpected answers and {errors} socket errors", file=sys.stderr)
    return {"rate": requests / micros * 1e6, "p50": p50 / 1e3, "p99": p99 / 1e3, "requests": requests}


def batches(port, policy, keys):
    """Checks each key once against a policy, in batches of a thousand."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for first in range(keys.start, keys.stop, 1000):
        checks = ",".join(f'{{"policy":"{policy}","key":"{key}"}}' for key in keys[first - keys.start:][:1000])
        connection.request("POST", "/check/batch", f'{{"checks":[{checks}]}}', {"content-type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"a batch was answered with {answer.status}: {answer.read(200)}")
        answer.read()
