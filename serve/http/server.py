"""Server: the application behind uvicorn, on loopback unless keys are set; SIGHUP reloads, SIGTERM ends well."""

from __future__ import annotations

import errno
import functools
import gc
import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import uvicorn
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve.gateways.alertmanager import Alertmanager
from serve.gateways.endpoint import Endpoint
from serve.gateways.langfuse import Langfuse, keys_in, scores_of
from serve.gateways.notices import Receiver
from serve.gateways.phoenix import Phoenix, annotations_of
from serve.gateways.secret_files import secret_text
from serve.gateways.settings import GatewaySettings
from serve.gateways.webhook import Webhook, secret_in
from serve.http.app import create_app
from serve.http.connections import MAX_CONNECTIONS, bounded_protocol, room_for
from serve.http.keys import ApiKeys
from serve.http.middleware import LOG, log_to_stderr
from serve.http.request_bodies import BodyLimits
from serve.http.service import Service, ServiceSettings

SHUTDOWN_S = 25
"""Longest that requests which were begun are waited for; less than the 30 s that Kubernetes gives."""

END_S = 28.0
"""When the process ends after SIGTERM, whatever a thread still does: before Kubernetes kills it."""

_CUT_SHORT = 4

Given = TypeVar("Given")
Parsed = TypeVar("Parsed")

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
    n_connections: int = MAX_CONNECTIONS

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


class Environment(BaseSettings):
    """Settings of the environment, each named STILLWATCH_ and its name here in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="STILLWATCH_", env_ignore_empty=True, hide_input_in_errors=True, extra="ignore"
    )
    api_keys: str = ""
    secret: SecretStr | None = None
    redis_url: SecretStr | None = None
    rate_limit: Annotated[float, Field(gt=0, allow_inf_nan=False, description="requests a second a key")] = 100.0
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    queue: Annotated[int, Field(ge=0, le=65_536)] = 4
    connections: Annotated[int, Field(ge=1, le=65_536)] = MAX_CONNECTIONS
    ttl_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7200.0
    store_mib: Annotated[int, Field(ge=1)] = 1024
    bodies_mib: Annotated[int, Field(ge=8, description="memory of all request bodies together")] = 64
    account_header: Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,64}$")] = "x-account-id"
    guardrail_blocks: Annotated[bool, Field(description="whether LiteLLM is told to block flagged accounts")] = False
    guardrail_seconds: Annotated[float, Field(gt=0, le=30, description="longest that LiteLLM's guardrail waits")] = 0.5
    litellm_account: str = "end_user,user,team,key"
    trace_account: str = "user.id,enduser.id"
    portkey_account: str = "_user,user"
    review: Annotated[
        SecretStr | None,
        Field(description="the review queue: a file, or the URL of a Postgres, which may hold a password"),
    ] = None
    campaigns: Path | None = None
    webhook: Annotated[SecretStr | None, Field(description="URL that is sent sessions that turn to harvesting")] = None
    webhook_secret: Annotated[Path | None, Field(description="file of the secret that signs them")] = None
    langfuse: Annotated[SecretStr | None, Field(description="URL of a Langfuse that is sent their scores")] = None
    langfuse_keys: Annotated[Path | None, Field(description="file of its keys, PUBLIC:SECRET")] = None
    phoenix: Annotated[SecretStr | None, Field(description="URL of a Phoenix whose sessions are annotated")] = None
    phoenix_key: Annotated[Path | None, Field(description="file of its API key, where it asks for one")] = None
    alerts: Annotated[SecretStr | None, Field(description="URL that is sent alerts as by Alertmanager")] = None
    seen_sessions: Annotated[
        Path | None, Field(description="file that tells sessions of before a restart; by default in XDG_STATE_HOME")
    ] = None

    def service(self, bundle: Path | None, host: str, port: int) -> ServiceSettings:
        """How to serve; without keys only requests that name this machine, or `host`, as their host.

        Raises:
            ValueError: when keys can't be read, a Redis or a webhook comes without a secret, or a URL can't be used.
        """
        keys = ApiKeys.parse(self.api_keys)
        return ServiceSettings(
            bundle=bundle, redis_url=_plain(self.redis_url), secret=(_plain(self.secret) or "").encode() or None,
            keys=keys, rate_per_s=self.rate_limit, n_workers=self.workers, n_waiting=self.queue,
            ttl_s=self.ttl_seconds, max_store_bytes=self.store_mib << 20,
            body=BodyLimits(n_bytes_of_all=self.bodies_mib << 20), campaigns=self.campaigns,
            account_header=self.account_header.lower(), gateways=self.gateways(), receivers=self.receivers(),
            review=_plain(self.review), usual_review=_state_dir() / "review.db",
            hosts=None if keys else (host,), seen_sessions=self.seen_sessions or _state_dir() / f"seen-sessions-{port}",
        )  # fmt: skip

    def gateways(self) -> GatewaySettings:
        """How reports of gateways and tracers are read.

        Raises:
            ValueError: when accounts are to be named by something that isn't known.
        """
        return GatewaySettings(
            blocks=self.guardrail_blocks, answer_s=self.guardrail_seconds,
            litellm_account=_listed(self.litellm_account), trace_account=_listed(self.trace_account),
            portkey_account=_listed(self.portkey_account),
        )  # fmt: skip

    def receivers(self) -> tuple[Receiver, ...]:
        """What is sent sessions that turn to harvesting.

        Raises:
            ValueError: when a URL or a secret can't be used, or one comes without the other.
        """
        found: list[Receiver] = []
        if _are_both("WEBHOOK", self.webhook, "WEBHOOK_SECRET", self.webhook_secret):
            endpoint = _usable("WEBHOOK", Endpoint.parse, _plain(self.webhook) or "")
            found.append(Webhook(endpoint, _usable("WEBHOOK_SECRET", secret_in, self.webhook_secret or Path())))
        if _are_both("LANGFUSE", self.langfuse, "LANGFUSE_KEYS", self.langfuse_keys):
            endpoint = _usable("LANGFUSE", scores_of, _plain(self.langfuse) or "")
            found.append(Langfuse(endpoint, _usable("LANGFUSE_KEYS", keys_in, self.langfuse_keys or Path())))
        if self.phoenix is not None:
            key = None if self.phoenix_key is None else _usable("PHOENIX_KEY", secret_text, self.phoenix_key)
            found.append(Phoenix(_usable("PHOENIX", annotations_of, _plain(self.phoenix) or ""), key))
        elif self.phoenix_key is not None:
            raise ValueError("STILLWATCH_PHOENIX_KEY needs STILLWATCH_PHOENIX")
        if self.alerts is not None:
            found.append(Alertmanager(_usable("ALERTS", Endpoint.parse, _plain(self.alerts) or "")))
        return tuple(found)


def _are_both(name: str, value: object | None, needed: str, other: object | None) -> bool:
    if (value is None) != (other is None):
        raise ValueError(f"STILLWATCH_{name} and STILLWATCH_{needed} need each other")
    return value is not None


def _usable(name: str, parse: Callable[[Given], Parsed], given: Given) -> Parsed:
    try:
        return parse(given)
    except ValueError as fault:
        raise ValueError(f"STILLWATCH_{name} can't be used: {fault}") from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def settings_of(
    host: str, port: int, bundle: Path | None, environment: Mapping[str, str] | None = None
) -> ServerSettings:
    """Settings from options and from the environment (see `Environment`).

    Raises:
        ValueError: naming the setting that can't be used, without its value.
    """
    try:
        found = Environment() if environment is None else Environment.model_validate(_named(environment))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        told = "is not a number" if "parsing" in first["type"] else f"can't be used: {first['msg'].lower()}"
        raise ValueError(f"STILLWATCH_{str(first['loc'][0]).upper()} {told}") from None
    service = found.service(bundle, host, port)
    return ServerSettings(host, port, service, found.connections)


def _named(environment: Mapping[str, str]) -> dict[str, str]:
    prefix = "STILLWATCH_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix) and value
    }


def _state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "stillwatch"


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def run(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were begun are finished, or dropped after `END_S`.

    Raises:
        OSError: when the address can't be had.
        BundleError: when the bundle can't be trusted or read.
    """
    log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    app = create_app(settings.service)
    _settle()
    with _bound(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, http=bounded_protocol(room_for(settings.n_connections)), access_log=False, log_config=None,
            log_level="warning", server_header=False, timeout_graceful_shutdown=SHUTDOWN_S, timeout_keep_alive=30,
            lifespan="on", ws="none",
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn sends them again once it has ended well
            signal.signal(number, lambda *_: None)
        reload = functools.partial(_reload, app.state.service)
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, daemon=True).start())
        LOG.info("listening on %s port %d", *listener.getsockname()[:2])
        _Server(config).run(sockets=[listener])


def _settle() -> None:
    """Leave what was loaded out of later garbage collections: each holds the interpreter for 0.1 s with it."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _reload(service: Service) -> None:
    if service.reload():
        _settle()


class _Server(uvicorn.Server):
    """uvicorn, which ends in time: neither it nor Python gives up on threads that go on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was begun; see `END_S`."""
        end = threading.Timer(END_S, _cut_short)
        end.daemon = True
        end.start()
        await super().shutdown(sockets)


def _cut_short() -> None:
    LOG.error("work that was begun has not ended within %g s: it is dropped", END_S)
    for handler in LOG.handlers:
        handler.flush()
    os._exit(_CUT_SHORT)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only so
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        if fault.errno == errno.EADDRINUSE:
            raise OSError(f"port {port} of {host} is in use") from fault
        raise
    return listener
