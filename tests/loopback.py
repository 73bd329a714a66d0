"""A file server on this machine that behaves as servers do: with ranges and without, breaking off, refusing, lying."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from sartor.data.originals import Original


@dataclass
class Server:
    """What it gives, how it behaves, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    """Whether it knows the header Range."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    answers: list[int] = field(default_factory=list)
    """Status codes of the next answers, 200 for the file."""
    lengths: bool = True
    """Whether it says how long a file is."""
    shift: int = 0
    """Bytes by which the parts that it gives are other ones than it was asked for."""
    moved: dict[str, str] = field(default_factory=dict)
    """Paths that lie at another path now."""
    silent: threading.Event | None = None
    """If there is one, answers wait for it."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and ranges that it was asked for."""

    def offer(self, name: str, content: bytes) -> Original:
        """Give a file, and tell what identifies it."""
        self.files[f"/{name}"] = content
        return Original(f"{self.address}/{name}", len(content), hashlib.sha256(content).hexdigest())


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server, each request in a thread of its own."""
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append((self.path, wanted))
            if server.silent is not None:
                server.silent.wait(10)
            if self.path in server.moved:
                self.send_response(302)
                self.send_header("Location", f"{server.address}{server.moved[self.path]}")
                self.end_headers()
                return
            status = server.answers.pop(0) if server.answers else 200
            if status != 200 or self.path not in server.files:
                self.send_error(status if status != 200 else 404)
                return
            self.give(server.files[self.path], wanted if server.ranges else None)

        def do_CONNECT(self) -> None:
            server.asked.append((self.path, "CONNECT"))
            self.send_error(403)

        def give(self, content: bytes, wanted: str | None) -> None:
            start = 0
            if wanted is not None:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(content):
                    self.send_error(416)
                    return
                start += server.shift
            body = content[start:]
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if server.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    server.address = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if server.silent is not None:
            server.silent.set()
        running.shutdown()
        running.server_close()
        thread.join()
