#!/usr/bin/env python3
"""A gateway in front of a model: reserves before it asks the model, and settles with what was used.

Only Python's standard library. `python3 gateway.py LISTEN TOLLGATE MODEL`, each as HOST:PORT.
"""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LISTEN, TOLLGATE, MODEL = sys.argv[1:4]
# What a refused client reads: the SDKs of OpenAI and Anthropic retry after that time, or not at all.
RETRY_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")


def post(host, path, body):
    """The status, the JSON and the headers of a response."""
    request = urllib.request.Request(f"http://{host}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


def finish(path, body):
    """Settles or cancels. Both are idempotent, so what may have been lost is sent again; 404 means done."""
    for attempt in range(10):
        try:
            status, _, _ = post(TOLLGATE, path, body)
            if status != 503:
                return
        except OSError:
            pass
        time.sleep(0.1 * 2**attempt)


def answer(api_key, request):
    # At the most: the prompt's tokens (four bytes are about one), and what the request allows as an answer.
    usage = {"input_tokens": len(json.dumps(request["messages"])) // 4}
    if "max_tokens" in request:
        usage["output_tokens"] = request["max_tokens"]
    # The id is the gateway's own, never the client's: who repeats an id is not charged again.
    reservation = {"id": str(uuid.uuid4()), "ttl_ms": 120_000}
    check = {"api_key": api_key, "model": request["model"], "usage": usage, "reservation": reservation}
    status, decision, headers = post(TOLLGATE, "/check", check)
    if status != 200:
        return status, decision, {name: headers[name] for name in RETRY_HEADERS if name in headers}
    # Null while the store is lost and the plan is `open`: there is nothing to settle.
    handle = (decision["reservation"] or {}).get("handle")
    try:
        status, completion, _ = post(MODEL, "/v1/chat/completions", request)
    except OSError:
        status, completion = 502, {"error": "the model cannot be reached"}
    if handle and status == 200:
        # The usage object as it came. Without one the usage is unknown, and the estimate stays charged.
        finish("/reservations/settle", {"handle": handle, "usage": completion.get("usage")})
    elif handle:
        finish("/reservations/cancel", {"handle": handle})
    return status, completion, {}


class Gateway(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        api_key = self.headers.get("authorization", "").removeprefix("Bearer ")
        status, body, headers = answer(api_key, request)
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_):
        pass


host, port = LISTEN.split(":")
ThreadingHTTPServer((host, int(port)), Gateway).serve_forever()
