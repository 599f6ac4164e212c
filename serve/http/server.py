"""Server: the application behind uvicorn, on loopback unless keys are set; SIGHUP reloads, SIGTERM ends well."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from serve.http.app import ServiceSettings, create_app
from serve.http.keys import ApiKeys
from serve.http.middleware import LOG

SHUTDOWN_S = 25
"""Longest that requests which were begun are waited for; less than the 30 s that Kubernetes gives."""


SWITCH_S = 0.0005
"""How soon a thread that judges lets the event loop go on: a tenth of Python's default."""


@dataclass(frozen=True)
class ServerSettings:
    """Where to listen, and how to serve.

    Raises:
        ValueError: when others could reach it and no key is set.
    """

    host: str
    port: int
    service: ServiceSettings

    def __post_init__(self) -> None:
        if not (is_loopback(self.host) or self.service.keys):
            raise ValueError(
                f"{self.host} can be reached by others: set STILLWATCH_API_KEYS (stillwatch serve --make-key NAME)"
            )
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}, expected 0 to 65535")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there; a name counts when it has only such addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {row[4][0] for row in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(address)).is_loopback for address in found)


def settings_of(
    host: str, port: int, bundle: Path | None, environment: Mapping[str, str] = os.environ
) -> ServerSettings:
    """Settings from options and from STILLWATCH_API_KEYS, _SECRET, _REDIS_URL, _RATE_LIMIT (requests a second a key),
    _WORKERS, _QUEUE, _TTL_SECONDS, _STORE_MIB, and of the analyst's page _FEEDBACK and _CAMPAIGNS (files).

    Raises:
        ValueError: naming the setting that can't be used.
    """

    def number(name: str, default: float) -> float:
        given = environment.get(f"STILLWATCH_{name}", "")
        try:
            return float(given) if given else default
        except ValueError:
            raise ValueError(f"STILLWATCH_{name} is not a number") from None

    def path(name: str) -> Path | None:
        given = environment.get(f"STILLWATCH_{name}", "")
        return Path(given) if given else None

    secret = environment.get("STILLWATCH_SECRET", "")
    service = ServiceSettings(
        bundle=bundle,
        redis_url=environment.get("STILLWATCH_REDIS_URL") or None,
        secret=secret.encode() or None,
        keys=ApiKeys.parse(environment.get("STILLWATCH_API_KEYS", "")),
        rate_per_s=number("RATE_LIMIT", 100.0),
        n_workers=int(number("WORKERS", 2)),
        n_waiting=int(number("QUEUE", 4)),
        ttl_s=number("TTL_SECONDS", 7200.0),
        max_store_bytes=int(number("STORE_MIB", 1024)) << 20,
        feedback=path("FEEDBACK"),
        campaigns=path("CAMPAIGNS"),
    )
    return ServerSettings(host, port, service)


def run(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were begun are finished.

    Raises:
        OSError: when the address can't be had.
        BundleError: when the bundle can't be trusted or read.
    """
    _log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    app = create_app(settings.service)
    with _bound(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, access_log=False, log_config=None, log_level="warning", server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S, timeout_keep_alive=30, lifespan="on", ws="none",
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn sends them again once it has ended well
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=app.state.service.reload, daemon=True).start())
        LOG.info("listening on %s port %d", *listener.getsockname()[:2])
        uvicorn.Server(config).run(sockets=[listener])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only so
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
