"""A network that can be cut: a proxy on this machine, for `bench_kills.py`."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """A network to Redis that can be cut."""

    def __init__(self, port: int) -> None:
        self._behind, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port, self.is_cut = self._listener.getsockname()[1], False
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            near = self._listener.accept()[0]
            try:
                far = socket.create_connection(("127.0.0.1", self._behind), timeout=1)
            except OSError:
                near.close()
                continue
            self._pairs.append((near, far))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with selectors.DefaultSelector() as waiting, near, far, contextlib.suppress(OSError):
            waiting.register(near, selectors.EVENT_READ, far)
            waiting.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in waiting.select():
                    part = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not part:
                        return
                    if not self.is_cut:  # else it is lost on the way, and nobody hears of it
                        key.data.sendall(part)

    def cut(self) -> None:
        self.is_cut = True

    def heal(self) -> None:
        """New connections work; those of before are reset."""
        self.is_cut = False
        for pair in self._pairs:
            for own in pair:
                with contextlib.suppress(OSError):
                    own.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()
