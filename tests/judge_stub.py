"""A server of chat completions on this machine, for tests of the judge."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub(ThreadingHTTPServer):
    """A server of chat completions; `say(prompt)` is text, bytes, or a status code."""

    daemon_threads = True

    def __init__(self, say):
        super().__init__(("127.0.0.1", 0), Handler)
        self.say, self.bodies, self.keys = say, [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append({**body, "path": self.path})
        self.server.keys.append(self.headers.get("Authorization"))
        said = self.server.say(body["messages"][-1]["content"])
        status = said if isinstance(said, int) else 200
        reply = {"choices": [{"message": {"role": "assistant", "content": said}}]}
        if status != 200:
            reply = {"error": {"message": f"refused, key {self.headers.get('Authorization')}"}}
        sent = said if isinstance(said, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        with suppress(BrokenPipeError):  # who asked has given up
            self.wfile.write(sent)

    def log_message(self, *args):
        pass


@contextmanager
def serving(say) -> Iterator[Stub]:
    """A stub that answers while the context lasts."""
    server = Stub(say)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
