"""The built site on a free port of the loopback address."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of each request."""


def listening(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1; port 0 takes a free one. Close it."""
    return ThreadingHTTPServer(
        ("127.0.0.1", port), partial(_Quiet, directory=str(folder))
    )


def forever(folder: Path, announce: Callable[[str], None]) -> None:
    """Serve `folder` until Ctrl-C.

    Args:
        folder: the site.
        announce: told the URL once the server listens.
    """
    with listening(folder) as server:
        announce(f"http://127.0.0.1:{server.server_address[1]}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
