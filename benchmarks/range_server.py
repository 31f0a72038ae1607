"""A web server with ranges that answers late, as servers far away do; a process of its own."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def serving(directory: Path, delay: float) -> Iterator[str]:
    """Serve the files of a directory on loopback; yield the URL.

    Args:
        directory: of the files.
        delay: seconds before each answer.
    """
    command = [sys.executable, "-m", "benchmarks.range_server", str(directory), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a header must not wait for the client's acknowledgement

    def __init__(self, directory: Path, delay: float, *args: Any) -> None:
        self._directory, self._delay = directory, delay
        super().__init__(*args)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with the size of a file."""
        self._answer(with_content=False)

    def do_GET(self) -> None:
        """Answer with a range of a file."""
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        time.sleep(self._delay)
        file = self._directory / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        size = file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        begin, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if with_content:
            with file.open("rb") as content:
                self.wfile.flush()
                self.connection.sendfile(content, begin, end - begin)


def main(directory: str, delay: str) -> None:
    """Serve until the process is ended."""
    handler = partial(_Handler, Path(directory), float(delay))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
