"""A judge by rule behind real HTTP: `python rule_judge.py PORT`. It speaks what the judge client speaks."""

import json
import math
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from shop import rule_grade

from taoemb.judge.prompt import read_messages


def choice(index, messages):
    query, item = read_messages(messages)
    grade = rule_grade(query, item)
    others = [{"token": str(g), "logprob": math.log(0.88 if g == grade else 0.04)} for g in (1, 2, 3, 4)]
    content = [{"token": str(grade), "logprob": math.log(0.88), "top_logprobs": others}]
    return {
        "index": index,
        "message": {"role": "assistant", "content": str(grade)},
        "finish_reason": "length",
        "logprobs": {"content": content},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "judge", "object": "model", "digest": "rules"}]})

    def do_POST(self):
        messages = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"]
        conversations = messages if isinstance(messages[0], list) else [messages]
        self.answer({"object": "chat.completion", "choices": [choice(i, c) for i, c in enumerate(conversations)]})

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
