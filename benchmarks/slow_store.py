"""A folder as an object store that answers late: HTTP on the loopback, S3's addresses, read only.

    python benchmarks/slow_store.py FOLDER --latency-ms 10

prints its address and serves until it is ended. A bucket is a folder below FOLDER.
"""

import argparse
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class SlowStore:
    """Where the store answers, and how often it was asked."""

    address: str = ""
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which ``s3://bucket/...`` is looked for here."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "us-east-1",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *args: object, folder: Path, latency_s: float, told: SlowStore) -> None:
        self.folder, self.latency_s, self.told = folder, latency_s, told
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        with self.told.lock:
            self.told.requests += 1
        time.sleep(self.latency_s)
        path = (self.folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            self._send(404, b"", size=0)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send(200, path.read_bytes() if with_body else b"", size=size)
            return
        first, last = wanted.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            self._send(416, b"", size=0)
            return
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        self._send(206, body, size=len(body), part=f"bytes {start}-{stop - 1}/{size}")

    def _send(self, status: int, body: bytes, *, size: int, part: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"unchanged"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def slow_store(folder: Path, *, latency_ms: float = 10, port: int = 0) -> Iterator[SlowStore]:
    """Serve `folder` from a thread of this process; each answer is late by `latency_ms`."""
    told = SlowStore()
    handler = partial(_Handler, folder=folder, latency_s=latency_ms / 1e3, told=told)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    told.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=10)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with slow_store(given.folder, latency_ms=given.latency_ms, port=given.port) as store:
        print(store.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
