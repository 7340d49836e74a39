#!/usr/bin/env python3
"""A client that behaves, in a process of its own: `honest.py HTTP GRPC RATE BODY`, until standard input is closed.

It sends checks at a fixed rate, whatever the responses do: half of them over a connection of their own. Where GRPC is a
port other than 0, every fifth request is one of Envoy. At the end it prints JSON: for each request the time it was due,
the seconds from then to its response, and `null` or why it counts as lost.
"""

import asyncio
import json
import sys
import time

from clients import Grpc, Http

# A client that waited longer would be given up by its own users.
PATIENCE_SECONDS = 5.0
DECIDED = (b'"decided_by":"memory"', b'"decided_by":"redis"', b'"decided_by":"lease"', b'"decided_by":"memo"')


async def check(client, body):
    status, text = await client.request("POST", "/check", body)
    if status != 200:
        return f"{status} {text[:200].decode(errors='replace')}"
    return None if any(word in text for word in DECIDED) else "decided without the store"


async def check_anew(port, body):
    client = Http(port, PATIENCE_SECONDS)
    try:
        return await check(client, body)
    finally:
        client.close()


async def ask_envoy(client):
    code = await client.request("honest")
    return None if code == 1 else f"gRPC code {code}"


async def main(http, grpc, rate, body):
    loop, kept, envoy = asyncio.get_running_loop(), Http(http, PATIENCE_SECONDS), Grpc(grpc, "edge", "user", PATIENCE_SECONDS)
    ended, results, tasks = asyncio.Event(), [], set()
    loop.add_reader(sys.stdin, ended.set)

    async def ask(turn, due):
        try:
            if grpc and turn % 5 == 4:
                lost = await ask_envoy(envoy)
            else:
                lost = await (check_anew(http, body) if turn % 2 else check(kept, body))
        except OSError as error:
            lost = f"{type(error).__name__} {error}"
        results.append((due, time.monotonic() - due, lost))

    start, turn = time.monotonic(), 0
    print("ready", flush=True)
    while not ended.is_set():
        due = start + turn / rate
        await asyncio.sleep(due - time.monotonic())
        task = asyncio.ensure_future(ask(turn, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        turn += 1
    await asyncio.gather(*tasks)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])))
