"""The report as a page that is made anew at each request, for watching a rollout while it runs."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from taoemb.errors import InputError, TaoembError
from taoemb.rollout.report.data import ReportData
from taoemb.rollout.report.page import render, to_json

REFRESH_S = 10
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
}
_log = logging.getLogger(__name__)


@contextmanager
def live_page(read: Callable[[], ReportData], host: str, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server for `/` (the page) and `/report.json`; port 0 takes a free one. Call its `serve_forever`.

    `read` is called at each request, by several threads. Raises InputError when the port can't be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*_answer(read, self.path.partition("?")[0]))

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            _log.debug(format, *args)

        def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                self.send_header("refresh", str(REFRESH_S))
            for name, value in {**_HEADERS, "content-type": kind, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InputError(f"the page can't be served on {host}:{port}: {error.strerror}; give another port") from None
    with server:
        yield server


def _answer(read: Callable[[], ReportData], path: str) -> tuple[HTTPStatus, str, str]:
    """Status, content type and content."""
    if path not in ("/", "/report.json"):
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", "not here; see / and /report.json\n"
    try:
        data = read()
    except TaoembError as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{error}\n"
    if path == "/report.json":
        text = json.dumps(to_json(data), ensure_ascii=False, allow_nan=False)
        return HTTPStatus.OK, "application/json", text
    return HTTPStatus.OK, "text/html; charset=utf-8", render(data, 0 if data.state.ended else REFRESH_S)
