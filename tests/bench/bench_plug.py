"""Plug-ins against the programs that they are for: 200 requests through each, and the verdicts that are seen of them.

    python tests/bench/bench_plug.py --clients .cache/plug/bin/python

Starts the service with the released bundle, sends requests with LiteLLM's library (log callback), OpenTelemetry's SDK
(OTLP over HTTP), curl, and the payloads of LiteLLM's proxy and Portkey's gateway, which no registry of Python has in a
form that runs here; checks the webhook's signatures with the library of Standard Webhooks. Prints a table; exits with 1
where a request is not seen.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
N = 200

TRACES = """
import json, sys
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1] + "/v1/traces")))
tracer = provider.get_tracer("bench")
for text in json.load(sys.stdin):
    messages = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
    with tracer.start_as_current_span("chat m") as span:
        span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "otel",
                             "gen_ai.input.messages": json.dumps(messages), "user.id": "otel"})
provider.shutdown()
"""

# By its name ("generic_api") the logger is there with the package litellm-enterprise only, as in the proxy's image.
LITELLM = """
import asyncio, json, os, sys
os.environ.update(GENERIC_LOGGER_ENDPOINT=sys.argv[1] + "/v1/litellm/logs", LITELLM_LOCAL_MODEL_COST_MAP="True")
import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger
async def main():
    logger = GenericAPILogger()
    litellm.callbacks = [logger]
    for text in json.load(sys.stdin):
        await litellm.acompletion(model="openai/m", messages=[{"role": "user", "content": text}], mock_response="ok",
                                  user="litellm", api_key="none")
    await asyncio.sleep(2)
    await logger.flush_queue()
asyncio.run(main())
"""

CHECK = """
import json, sys
from standardwebhooks.webhooks import Webhook
secret, calls = json.load(sys.stdin)
for headers, body in calls:
    Webhook(secret).verify(body, headers)
print(len(calls))
"""


def prompts(name: str) -> list[str]:
    """Prompts as a harvester sends them."""
    kinds = ("sorts a list", "parses a date", "balances a tree", "finds primes", "merges intervals")
    return [
        f"Write a Python function that {kinds[index % 5]} for case {index} of {name}, then explain every step of your "
        "reasoning and grade the answer from 1 to 5."
        for index in range(N)
    ]


class Hooks:
    """A receiver of notices: what it got, by path."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], str]] = []
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                hooks.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def posted(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def account(base: str, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{base}/v1/accounts/{name}", timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def client(python: Path, code: str, base: str, name: str) -> None:
    subprocess.run([python, "-c", code, base], input=json.dumps(prompts(name)), text=True, check=True, timeout=600)


def curl(base: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for index, text in enumerate(prompts(name)):
            body = Path(folder) / f"{index}.json"
            body.write_text(json.dumps({"account_id": name, "exchanges": [{"prompt": text, "at": 1.7e9 + index}]}))
            lines += [f'url = "{base}/v1/sessions/curl/exchanges"', f'data = "@{body}"', "next"]
            lines += ['header = "content-type: application/json"', 'output = "/dev/null"', "fail"]
        config = Path(folder) / "curl.config"
        head = ['header = "content-type: application/json"', 'output = "/dev/null"', "fail"]
        config.write_text("\n".join([*head, *lines[:-4]]))
        subprocess.run(["curl", "--silent", "--show-error", "--config", config], check=True, timeout=600)


def guardrail(base: str, name: str) -> None:
    for text in prompts(name):
        ids = {"user_api_key_end_user_id": name}
        messages = [{"role": "user", "content": text}]
        given = {"texts": [text], "structured_messages": messages, "request_data": ids, "input_type": "request"}
        assert posted(f"{base}/beta/litellm_basic_guardrail_api", given)["action"] == "NONE"


def portkey(base: str, name: str) -> None:
    for text in prompts(name):
        sent = {"model": "m", "messages": [{"role": "user", "content": text}]}
        about = {"metadata": {"_user": name}, "eventType": "beforeRequestHook", "requestType": "chatComplete"}
        assert posted(f"{base}/v1/portkey/webhook", {"request": {"json": sent, "text": text}, **about})["verdict"]


def main() -> int:
    """Exit code 0 where every request was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=Path, required=True, help="Python with the clients' libraries")
    given = parser.parse_args()
    hooks, secret = Hooks(), f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (Path(folder) / "secret").write_text(secret)
        own = {
            "STILLWATCH_WEBHOOK": hooks.url + "/webhook", "STILLWATCH_WEBHOOK_SECRET": str(Path(folder) / "secret"),
            "STILLWATCH_ALERTS": hooks.url + "/alerts", "STILLWATCH_PHOENIX": hooks.url, "XDG_STATE_HOME": folder,
            "STILLWATCH_RATE_LIMIT": "10000", "STILLWATCH_GUARDRAIL_SECONDS": "30",
        }  # fmt: skip
        command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port)]
        service = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stderr=subprocess.DEVNULL)
        try:
            return _measured(given.clients, f"http://127.0.0.1:{port}", hooks, secret)
        finally:
            service.send_signal(signal.SIGTERM)
            print("service ended with", service.wait(60))


def _measured(python: Path, base: str, hooks: Hooks, secret: str) -> int:
    _wait(base)
    ways: dict[str, Callable[[str, str], None]] = {
        "curl": curl, "guardrail": guardrail, "portkey": portkey,
        "otel": lambda base, name: client(python, TRACES, base, name),
        "litellm": lambda base, name: client(python, LITELLM, base, name),
    }  # fmt: skip
    print(f"{'through':<12}{'requests':>10}{'seen':>8}{'seconds':>10}  sessions flagged")
    n_missing = 0
    for name, send in ways.items():
        began = time.monotonic()
        send(base, name)
        seconds, found = time.monotonic() - began, account(base, name)
        n_missing += found["n_exchanges"] != N
        flagged = f"{found['flagged_share']:.0%} of {found['n_sessions']}, p-value {found['p_value']:.4f}"
        print(f"{name:<12}{N:>10}{found['n_exchanges']:>8}{seconds:>10.1f}  {flagged}")
    time.sleep(2)
    calls = [(headers, body) for path, headers, body in hooks.got if path == "/webhook"]
    done = subprocess.run(
        [python, "-c", CHECK], input=json.dumps([secret, calls]), text=True, check=True, capture_output=True
    )
    paths = sorted({path for path, *_ in hooks.got})
    print(f"{done.stdout.strip()} signed notices verified by standardwebhooks; receivers called: {', '.join(paths)}")
    return int(n_missing > 0)


def _wait(base: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{base}/healthz", timeout=2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError("the service doesn't start")


if __name__ == "__main__":
    sys.exit(main())
