"""The measured servers and their load: started on free loopback ports, stopped at exit.

The measurements are in the programs that import this module.
"""

import atexit
import contextlib
import http.client
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


# Below the ports that Linux draws for connections, so that no load takes the port of a server.
PORTS = iter(range(10_000 + os.getpid() * 7919 % 11_000, 32_000))


def free_port():
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    sys.exit("all ports were tried")


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


def cpu_seconds(process):
    """CPU time of a process: user and system."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_seconds(process):
    """CPU time of a process' threads that still run, to the nanosecond instead of a clock tick."""
    threads = pathlib.Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def metrics(port):
    """The samples of a server's metrics: name, labels, value."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return [(name, labels, float(value)) for name, labels, value in re.findall(r"^(\w+)(\S*) (\S+)$", text, re.M)]


class Redis:
    """A redis-server without persistence, and its statistics."""

    def __init__(self, *flags, **env):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        self.process = start(
            ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", self.dir.name, "--loglevel", "warning", *flags],
            env={**os.environ, **env})
        wait_for(self.port)

    def cli(self, *words):
        return subprocess.check_output(["redis-cli", "-p", str(self.port), *words], text=True)

    def reset(self):
        self.cli("CONFIG", "RESETSTAT")

    def scripts(self):
        """Calls of the script or the module, and their microseconds since the last reset."""
        calls = micros = 0
        for line in self.cli("INFO", "commandstats").splitlines():
            if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:", "cmdstat_tg.judge:")):
                fields = dict(field.split("=") for field in line.split(":")[1].split(","))
                calls += int(fields["calls"])
                micros += int(fields["usec"])
        return calls, micros

    def calls(self, *commands):
        """Calls of these commands since the last reset."""
        stats = dict(line[8:].split(":") for line in self.cli("INFO", "commandstats").split() if line.startswith("cmdstat_"))
        return sum(int(re.search(r"calls=(\d+)", stats.get(command, "calls=0"))[1]) for command in commands)


class Decisions:
    """The decisions that a service has counted, so that no rate is one of errors, or of checks that no limit judged."""

    def __init__(self, port):
        self.port = port
        self.judged, self.failed = self.count()

    def count(self):
        judged = failed = 0
        for name, labels, value in metrics(self.port):
            if name == "tollgate_decisions_total" and re.search('outcome="(allowed|refused)"', labels):
                judged += value
            elif name in ("tollgate_decisions_total", "tollgate_store_errors_total"):
                failed += value
        return judged, failed

    def verified(self):
        """The decisions by limits until now. Ends the program if any check was decided otherwise."""
        if self.failed:
            sys.exit(f"{self.failed:.0f} checks were decided without the store or lost: this load measures nothing")
        return self.judged

    def verify(self, checks):
        """Ends the program unless limits have judged at least this many checks since, and nothing else has happened."""
        judged, failed = self.count()
        if judged - self.judged < checks or failed > self.failed:
            sys.exit(f"{checks} checks were answered, limits judged {judged - self.judged:.0f} of them, and "
                     f"{failed - self.failed:.0f} were decided without the store or lost: this load measures nothing")


class Service:
    def __init__(self, binary, *flags, catalog=HERE / "catalog.yaml", **env):
        self.port = free_port()
        self.process = start(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--drain-delay", "0s",
             "--catalog", str(catalog), *flags],
            env={**os.environ, "RUST_LOG": "warn", **env})
        wait_for(self.port)


class Throttlecrab:
    """throttlecrab's server, if it is installed (cargo install throttlecrab-server)."""

    BODY = '{"key":"user:%d","max_burst":100000000,"count_per_period":20,"period":1}'

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
        load = f"{connections} connections {env or ''}".rstrip()
        sys.exit(f"{bad} unexpected answers and {errors} socket errors with {load}: this load measures nothing")
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
