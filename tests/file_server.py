"""A server of files on this machine that can misbehave, one answer at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BEFORE_THE_GATE = 64 << 10  # bytes


@dataclass
class Answer:
    """How to answer one request; by default as a good server does."""

    status: int = 200  # another one has no bytes
    stop_after: int | None = None  # bytes, then the connection ends
    length: int | None = None  # Content-Length, where it is to lie
    content: bytes | None = None  # other bytes than the file's
    knows_ranges: bool = True
    range_from: int | None = None  # where a 206 says that it begins, where it is to lie
    chunked: bool = False
    pause_s: float = 0.0  # before the first byte
    hold: threading.Event | None = None  # what the first byte waits for, longer than any test takes
    slow: bool = False  # a pause between pieces of 4 KiB, too
    gate: threading.Event | None = None  # what the rest waits for, after the first 64 KiB
    location: str = ""


@dataclass
class FileServer:
    """Files by path, their ETags, the answers to give before good ones, and the requests that came."""

    files: dict[str, bytes]
    url: str = ""
    etags: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    default: Answer = field(default_factory=Answer)
    by_path: dict[str, Answer] = field(default_factory=dict)  # instead of the default
    every_third: Answer | None = None  # instead of both, for every third request
    users: list[str | None] = field(default_factory=list)  # Authorization of each request
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range
    spoke: list[str] = field(default_factory=list)  # paths whose first byte was held, and is no longer

    def asked_for(self, suffix: str) -> list[str]:
        """Return the paths asked for that end so."""
        return [path for path, _ in self.requests if path.partition("?")[0].endswith(suffix)]

    def etag(self, path: str) -> str:
        return self.etags.get(path, '"1"')


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state: FileServer = self.server.state  # type: ignore[attr-defined]
        state.requests.append((self.path, self.headers.get("Range")))
        state.users.append(self.headers.get("Authorization"))
        path = self.path.partition("?")[0]
        answer = state.answers.pop(0) if state.answers else state.by_path.get(path, state.default)
        if state.every_third is not None and len(state.requests) % 3 == 0:
            answer = state.every_third
        self.close_connection = True
        time.sleep(answer.pause_s)
        if answer.hold is not None:
            answer.hold.wait(300)
            state.spoke.append(path)
        if answer.status != 200 or path not in state.files:
            self.send_response(404 if answer.status == 200 else answer.status)
            if answer.location:
                self.send_header("Location", answer.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        whole = state.files[path] if answer.content is None else answer.content
        begin = self._begin(answer, state.etag(path))
        if begin is not None and begin >= len(whole):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._head(answer, whole, begin, state.etag(path))
        self._body(answer, whole[begin or 0 :])

    def _begin(self, answer: Answer, etag: str) -> int | None:
        asked = self.headers.get("Range")
        if asked is None or not answer.knows_ranges or self.headers.get("If-Range", etag) != etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _head(self, answer: Answer, whole: bytes, begin: int | None, etag: str) -> None:
        self.send_response(200 if begin is None else 206)
        if etag:
            self.send_header("ETag", etag)
        if begin is not None:
            said = begin if answer.range_from is None else answer.range_from
            self.send_header("Content-Range", f"bytes {said}-{len(whole) - 1}/{len(whole)}")
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = len(whole) - (begin or 0) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, answer: Answer, data: bytes) -> None:
        data = data[: answer.stop_after]
        with suppress(OSError):  # the other side has gone
            for start in range(0, len(data), 4096):
                piece = data[start : start + 4096]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
                self.wfile.flush()
                time.sleep(0.02 if answer.slow else 0)
                if answer.gate is not None and start >= _BEFORE_THE_GATE:
                    answer.gate.wait(300)
            if answer.chunked and answer.stop_after is None:
                self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve ``files``, bytes by path, until the block ends."""
    with listening(Handler) as (server, url):
        server.state = FileServer(files, url)  # type: ignore[attr-defined]
        yield server.state  # type: ignore[attr-defined]


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """Answer requests on this machine until the block ends; gives the server and its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
