#!/usr/bin/env python3
"""Attacks a node for ten minutes, one kind after the other, beside a client that behaves.

For each attack it prints, as a row of Markdown: what was done, the most memory and files that the node had meanwhile,
and the p50 and p99 of the honest client before the attack and beside it. It fails where a server ended or panicked, a
response was a 5xx that is not documented, a secret was in a response or a log, a limit admitted too much, a request of
the honest client was lost, or memory grew beyond the attack's ceiling. It never fails because of a time.

--short runs each attack for about a second. ATTACK_SEED repeats a run; --only WORDS runs the attacks that have the words
in their name. TOLLGATE is the binary: target/release/tollgate unless it is set.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time

from attacks import ATTACKS
from servers import ROOT

HONEST = ROOT / "tests/endurance/honest.py"
# Before the attack, the honest client is alone for this long.
CALM_SECONDS, SHORT_CALM_SECONDS = 4.0, 0.2
RATE, SHORT_RATE = 50, 20


class Honest:
    """The process of the honest client."""

    def __init__(self, attack):
        rate = SHORT_RATE if attack.short else RATE
        command = [sys.executable, str(HONEST), str(attack.victim.http), str(attack.victim.grpc), str(rate), json.dumps(attack.honest_body())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def results(self):
        """All requests: when each was due, how long it took, and why it was lost."""
        return json.loads(self.process.communicate()[0])


class Watch(threading.Thread):
    """The most memory and open files that a node has during an attack."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.ended = node, threading.Event()
        self.before, self.most = node.status(), node.status()
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            try:
                now = self.node.status()
            except (OSError, TypeError):
                continue
            self.most = {name: max(self.most[name], now[name]) for name in now}

    def grown(self):
        """MiB above those before, and the most files."""
        self.ended.set()
        self.join()
        return self.most["RSS, MiB"] - self.before["RSS, MiB"], self.most["fds"]


def at(times, part):
    return sorted(times)[int(part * (len(times) - 1))] * 1e3 if times else 0.0


def attempt(attack, until):
    """What the attack did. A connection that ends where it should not is a fault of the node."""
    try:
        return attack.run(until)
    except OSError as error:
        logs = "\n".join(node.log()[-1500:] for node in attack.nodes)
        attack.fault(f"the attack could not go on: {error!r}\n{logs}")
        return "not finished"


def run(kind, seed, short):
    """Runs one attack. Returns its row and its faults."""
    attack = kind(seed, short)
    faults = []
    try:
        attack.start()
        honest = Honest(attack)
        time.sleep(SHORT_CALM_SECONDS if short else CALM_SECONDS)
        watch, began = Watch(attack.victim), time.monotonic()
        done = attempt(attack, began + (kind.short_seconds if short else kind.seconds))
        ended = time.monotonic()
        results, (mib, fds) = honest.results(), watch.grown()
        faults += attack.faults()
        calm = [took for due, took, _ in results if due < began]
        beside = [took for due, took, lost in results if began <= due < ended and not lost]
        lost = [why for due, _, why in results if began <= due < ended and why]
        lost_alone = sum(1 for due, _, why in results if due < began and why)
        if lost and not kind.honest_may_lose:
            faults.append(f"{len(lost)} requests of the honest client were lost, for example: {lost[0]}")
        if not beside and not kind.honest_may_lose:
            faults.append("the honest client was not served")
        if mib > kind.most_mib:
            faults.append(f"memory grew by {mib:.0f} MiB, at most {kind.most_mib} are allowed")
        times = f"{at(calm, 0.5):.1f} / {at(calm, 0.99):.1f}", f"{at(beside, 0.5):.1f} / {at(beside, 0.99):.1f}"
        ratio = at(beside, 0.99) / max(at(calm, 0.99), 0.1)
        row = [kind.name, f"{done}; {ended - began:.0f} s", f"{mib:.0f} MiB, {fds} files", *times, f"{ratio:.1f}", f"{len(lost)} of {len(lost) + len(beside)} ({lost_alone})"]
    finally:
        attack.stop()
    return row, [f"{kind.name}: {fault}" for fault in faults]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="each attack for about a second")
    parser.add_argument("--only", default="", help="words in the names of attacks")
    options = parser.parse_args()
    seed = os.environ.get("ATTACK_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"ATTACK_SEED={seed}\n", flush=True)
    print("| attack | done | most held | alone, p50 / p99 ms | beside it, p50 / p99 ms | p99 × | lost (alone) |\n|---|---|---|---:|---:|---:|---:|", flush=True)
    faults = []
    for kind in ATTACKS:
        if options.only in kind.name:
            row, found = run(kind, seed, options.short)
            print("| " + " | ".join(row) + " |", flush=True)
            faults += found
    if faults:
        sys.exit(f"\nATTACK_SEED={seed}\n" + "\n".join(faults))


if __name__ == "__main__":
    main()
