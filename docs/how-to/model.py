#!/usr/bin/env python3
"""A stand-in for a model's server, for docs/how-to: chat completions that cost tokens and nothing else.

Answers with as many words as the request asks for in `words` (10 by default, `max_tokens` at the most), after
`seconds` (0 by default), and with the usage object of OpenAI's API: with `"stream": true` word by word, and the
usage in the last event. `python3 model.py 127.0.0.1:9000`
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seconds = request.get("seconds", 0)
        prompt = sum(len(message["content"].split()) for message in request["messages"])
        words = min(request.get("words", 10), request.get("max_tokens", 1000))
        usage = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
        if request.get("stream"):
            self.stream(request["model"], words, seconds, usage)
            return
        time.sleep(seconds)
        answer = {
            "object": "chat.completion",
            "model": request["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": " ".join(["word"] * words)}}],
            "usage": usage,
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, model, words, seconds, usage):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        events = [{"choices": [{"index": 0, "delta": {"content": "word "}}], "usage": None}] * words
        try:
            for event in [*events, {"choices": [], "usage": usage}]:
                chunk = {"object": "chat.completion.chunk", "model": model, **event}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                time.sleep(seconds / (words + 1))
            self.wfile.write(b"data: [DONE]\n\n")
        except ConnectionError:
            pass  # the client is gone

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 128
host, port = sys.argv[1].split(":")
ThreadingHTTPServer((host, int(port)), Model).serve_forever()
