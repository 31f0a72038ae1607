"""A web server with ranges and a log of its requests, for tests."""

import re
import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote


class Request(NamedTuple):
    """A request that a server answered: method, path, and the range asked for, if any."""

    method: str
    path: str
    span: tuple[int, int] | None

    @property
    def length(self):
        return 0 if self.span is None else self.span[1] - self.span[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256  # connections of many threads at once; more would wait for a second


class RangeServer:
    """Serves the files below a directory on loopback.

    Args:
        directory: of the files.

    Attributes:
        log: the requests, in the order in which they were answered.
        before: called before each answer with the request; may wait, or return a status to fail.
        ranges: whether ranges are respected; if not, whole files are sent.
        most_at_once: the largest number of requests that were answered at a time.
    """

    def __init__(self, directory):
        self.directory, self.log = directory, []
        self.before, self.ranges = None, True
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        self._connections = []

    @contextmanager
    def running(self):
        server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        thread = threading.Thread(target=server.serve_forever, name="range-server")
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            for connection in self._connections:  # clients keep them open
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            server.server_close()

    def connected(self, connection):
        with self._lock:
            self._connections.append(connection)

    @contextmanager
    def answering(self, request):
        with self._lock:
            self.log.append(request)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def gets(self, name=""):
        """Returns the GET requests of files whose path contains a text."""
        return [one for one in self.log if one.method == "GET" and name in one.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, owner, *args):
        self.owner = owner
        owner.connected(args[0])
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer("HEAD")

    def do_GET(self):
        self._answer("GET")

    def _answer(self, method):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = (int(asked[1]), int(asked[2]) + 1) if asked else None
        request = Request(method, self.path, span)
        with self.owner.answering(request):
            status = self.owner.before(request) if self.owner.before else None
            file = self.owner.directory / unquote(self.path).lstrip("/")
            if status is None and not file.is_file():
                status = 404
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size = file.stat().st_size
            is_part = span is not None and self.owner.ranges
            begin, end = span if is_part else (0, size)
            end = min(end, size)
            self.send_response(206 if is_part else 200)
            if is_part:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if method == "GET":
                with file.open("rb") as content:
                    content.seek(begin)
                    self.wfile.write(content.read(end - begin))
