"""A Hub of our own on this machine: enough of its answers to list, download and read by range."""

import json
import re
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SHA = "5" * 40
CONVERTED_SHA = "7" * 40


class FakeHub:
    """Repositories by revision: `files` is path → bytes; `fetched` counts bytes by file.

    The dataset o/d and the model o/m hold the same files. `troubles` are met by one request for a
    file's bytes each, first to last: ("cut", n) closes the connection after n bytes, ("stall", n)
    sends no more, ("status", code) refuses. `pace` is (bytes, seconds between them).
    """

    def __init__(self):
        self.troubles: list[tuple[str, int]] = []
        self.pace: tuple[int, float] | None = None
        self.ranges: list[str | None] = []  # of the requests for a file's bytes
        self.released = threading.Event()  # ends what stalls
        self.files: dict[str, dict[str, bytes]] = {SHA: {}}
        self.card: dict | None = None
        self.status = 0  # answer everything with this error
        self.fetched: dict[str, int] = {}
        self.endpoint = ""
        self.models: dict[str, dict] = {}  # id → entry of the Hub, "files" as path → bytes
        self.asked: list[str] = []  # paths

    def add_model(self, name: str, files: dict[str, bytes | dict], **entry) -> None:
        """A model repository; a dict is written as JSON, `entry` are keys of the Hub's answer."""
        written = {
            path: json.dumps(data).encode() if isinstance(data, dict) else data
            for path, data in files.items()
        }
        self.models[name] = {"gated": False, "tags": [], **entry, "files": written}

    def model_entry(self, name: str) -> dict:
        entry = {key: value for key, value in self.models[name].items() if key != "files"}
        files = self.models[name]["files"]
        siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
        return {"id": name, "sha": SHA, "siblings": siblings, **entry}

    def info(self, revision: str) -> dict | None:
        known = {"main": SHA, SHA: SHA, "refs/convert/parquet": CONVERTED_SHA}
        sha = known.get(revision)
        if sha not in self.files:
            return None
        names = [{"rfilename": name} for name in self.files[sha]]
        return {"id": "o/d", "sha": sha, "siblings": names, "cardData": self.card, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def _send(self, status: int, body: bytes, **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), Content_Type="application/json")

    def _error(self, status: int, code: str = ""):
        self._send(status, b"{}", X_Error_Code=code)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(self.path.split("?")[0])
        self.hub.asked.append(path)
        if self.hub.status:
            return self._error(self.hub.status)
        if path == "/api/models":
            words = parse_qs(urlsplit(self.path).query).get("search", [""])[0].lower().split()
            found = [name for name in self.hub.models if all(w in name.lower() for w in words)]
            return self._json([self.hub.model_entry(name) for name in found])
        model = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)", path)
        if model and model[1] in self.hub.models:
            return self._json(self.hub.model_entry(model[1]))
        part = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        if part and part[1] in self.hub.models:
            return self._model_file(self.hub.models[part[1]], part[3])
        api = re.fullmatch(r"/api/(?:datasets|models)/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path)
        if api:
            if api[1] not in ("o/d", "o/m"):
                return self._error(404, "RepoNotFound")
            info = self.hub.info(api[2] or "main")
            return self._json(info) if info else self._error(404, "RevisionNotFound")
        tree = re.fullmatch(r"/api/(?:datasets/o/d|models/o/m)/tree/(\w+)", path)
        if tree:
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                    for name, data in self.hub.files.get(tree[1], {}).items()
                ]
            )
        file = re.fullmatch(r"/(?:datasets/o/d|o/m)/resolve/([^/]+)/(.+)", path)
        data = self.hub.files.get(file[1], {}).get(file[2]) if file else None
        if data is None:
            return self._error(404, "EntryNotFound")
        return self._file(file[1], file[2], data)

    def _model_file(self, model: dict, name: str):
        if model["gated"] and self.headers.get("Authorization") != "Bearer hf_may_read":
            return self._error(401, "GatedRepo")
        data = model["files"].get(name)
        return self._error(404, "EntryNotFound") if data is None else self._file(SHA, name, data)

    def _file(self, revision: str, name: str, data: bytes):
        tag = f'"{sha256(data).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"ETag": tag, "X_Repo_Commit": revision, "Accept_Ranges": "bytes"}
        status, part = 200, data
        if asked:
            status, start = 206, int(asked[1])
            part = data[start : int(asked[2]) + 1 if asked[2] else len(data)]
            end = start + len(part) - 1
            headers["Content_Range"] = f"bytes {start}-{end}/{len(data)}"
        if self.command == "GET":
            self.hub.ranges.append(self.headers.get("Range"))
            if self.hub.troubles or self.hub.pace:
                return self._troubled(status, part, name, **headers)
            self.hub.fetched[name] = self.hub.fetched.get(name, 0) + len(part)
        return self._send(status, part, **headers)

    def _troubled(self, status: int, part: bytes, name: str, **headers: str):
        """Send the bytes slowly, or not all of them."""
        kind, value = self.hub.troubles.pop(0) if self.hub.troubles else ("", 0)
        if kind == "status":
            return self._send(value, b"", Retry_After="1")
        sent = part[:value] if kind in ("cut", "stall") else part
        size, wait = self.hub.pace or (max(1, len(sent)), 0)
        self.send_response(status)
        for header, text in {**headers, "Content-Length": str(len(part))}.items():
            self.send_header(header.replace("_", "-"), text)
        self.end_headers()
        for at in range(0, len(sent), size):
            self.hub.fetched[name] = self.hub.fetched.get(name, 0) + len(sent[at : at + size])
            try:
                self.wfile.write(sent[at : at + size])
            except OSError:  # the client has gone
                break
            time.sleep(wait)
        if kind == "stall":
            self.hub.released.wait(60)
        self.close_connection = len(sent) < len(part)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # a client that stops a download closes its connection


@contextmanager
def running(hub: FakeHub):
    """Serve a fake Hub while the block runs; `hub.endpoint` is its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub, server.daemon_threads = hub, True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
