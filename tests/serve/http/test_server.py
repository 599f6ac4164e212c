"""Where it listens, what it refuses to begin with, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from serve.cli import main
from serve.http import server
from serve.http.app import create_app
from serve.http.server import Environment, is_loopback, run, settings_of
from serve.http.service import ServiceSettings

ROOT = Path(__file__).parents[3]
KEYS = {"STILLWATCH_API_KEYS": f"gateway:{'0' * 64}"}
BODY = {"account_id": "a", "exchanges": [{"prompt": f"sort a list {index}"} for index in range(6)]}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "192.168.1.1", "::ffff:10.0.0.7"])
def test_without_a_key_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="can be reached by others: set STILLWATCH_API_KEYS"):
        settings_of(host, 8080, None, {})
    assert settings_of(host, 8080, None, KEYS).service.keys


def test_loopback_needs_no_key() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert settings_of("127.0.0.1", 8080, None, {}).service.redis_url is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"STILLWATCH_API_KEYS": "canary"}, "API key 1 is not"),
        ({"STILLWATCH_RATE_LIMIT": "canary"}, "STILLWATCH_RATE_LIMIT is not a number"),
        ({"STILLWATCH_REDIS_URL": "redis://localhost"}, "needs STILLWATCH_SECRET"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_and_not_quoted(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as fault:
        settings_of("127.0.0.1", 8080, None, environment)
    assert "canary" not in str(fault.value)


def test_the_command_refuses_an_open_address_and_makes_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STILLWATCH_API_KEYS", raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "can be reached by others" in capsys.readouterr().err
    assert main(["serve", "--make-key", "gateway"]) == 0
    entry = capsys.readouterr().out.split()[-1]
    assert settings_of("0.0.0.0", 80, None, {"STILLWATCH_API_KEYS": entry}).service.keys


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A socket that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen(64)
        yield tmp_path / "silent.sock"


def test_without_an_answer_from_redis_verdicts_go_on_and_readyz_says_so(
    bundle_folder: Path, tmp_path: Path, silent: Path
) -> None:
    alone = TestClient(create_app(ServiceSettings(bundle=bundle_folder)))
    expected = alone.post("/v1/sessions/s/exchanges", json=BODY).json()
    for path in (tmp_path / "nothing.sock", silent):
        given = ServiceSettings(bundle=bundle_folder, redis_url=f"unix://{path}", secret=b"0123456789abcdef")
        client = TestClient(create_app(given))
        assert client.post("/v1/sessions/s/exchanges", json=BODY).json() == expected | {"is_shared": False}
        reply = client.get("/readyz")
        assert (reply.status_code, reply.json()["store"]) == (503, "redis does not answer")
        assert client.get("/healthz").status_code == 200
        for asked in ("/v1/sessions/s", "/v1/accounts/a"):
            assert client.get(asked).status_code == 503
            assert client.get(asked).headers["retry-after"] == "1"


def test_it_starts_serves_reloads_and_ends_well(bundle_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port), "--bundle", str(bundle_folder)]
    log, own = tmp_path / "log", os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    with log.open("wb") as written, subprocess.Popen(command, cwd=ROOT, stderr=written, env=own) as process:
        try:
            assert post(port, BODY)["verdict"]["n_exchanges"] == 6
            os.kill(process.pid, signal.SIGHUP)
            for _ in range(500):
                if '"reload": "done"' in log.read_text():
                    break
                time.sleep(0.02)
            assert post(port, BODY)["verdict"]["n_exchanges"] == 12
            begun = begin(port, BODY)
        finally:
            process.terminate()
        time.sleep(0.3)
        assert finish(begun, BODY).startswith(b"HTTP/1.1 200")  # what was begun is finished
        assert process.wait(30) == 0
    text = log.read_text()
    assert '"reload": "done"' in text
    assert "/v1/sessions/{session_id}/exchanges" in text
    assert "sort" not in text


def begin(port: int, body: object) -> socket.socket:
    """Send a request but for its last byte."""
    data = json.dumps(body).encode()
    own = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = "POST /v1/sessions/s/exchanges HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    own.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data[:-1])
    time.sleep(0.3)
    return own


def finish(own: socket.socket, body: object) -> bytes:
    """Send its last byte: the answer."""
    with own:
        own.sendall(json.dumps(body).encode()[-1:])
        return own.recv(1 << 16)


def post(port: int, body: object) -> dict[str, dict[str, int]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/sessions/s/exchanges",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    for _ in range(1200):
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                found: dict[str, dict[str, int]] = json.load(reply)
                return found
        except ConnectionRefusedError:
            time.sleep(0.05)
        except urllib.error.URLError as fault:
            if not isinstance(fault.reason, ConnectionRefusedError):
                raise
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def test_a_thread_that_does_not_end_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("serve.http.server.os._exit", codes.append)
    monkeypatch.setattr(server, "END_S", 0.01)
    monkeypatch.setattr(server.LOG, "propagate", True)

    async def slow(*_: object) -> None:
        for _ in range(1000):
            await asyncio.sleep(0 if codes else 0.01)

    monkeypatch.setattr("uvicorn.Server.shutdown", slow)
    asyncio.run(server._Server(uvicorn.Config(slow)).shutdown())
    assert codes == [4]
    assert "has not ended within 0.01 s: it is dropped" in caplog.text


def test_the_readme_and_the_help_name_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "serve" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    for name in [*Environment.model_fields, "require_signed"]:
        assert f"`STILLWATCH_{name.upper()}`" in readme
        assert f"_{name.upper()}" in shown


def test_a_port_in_use_is_named(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("serve.http.server.log_to_stderr", "sys.setswitchinterval"):
        monkeypatch.setattr(name, lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"STILLWATCH_SEEN_SESSIONS": str(tmp_path / "seen"), "STILLWATCH_REVIEW": str(tmp_path / "r.db")}
        settings = settings_of("127.0.0.1", port, bundle_folder, environment)
        with pytest.raises(OSError, match=f"^port {port} of 127.0.0.1 is in use$"):
            run(settings)
