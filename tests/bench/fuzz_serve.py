"""Thousands of requests to the service, made from its OpenAPI document and of anything: `make fuzz-serve`.

First schemathesis, with all of its phases and checks, on a service without keys and on one with a key: right and wrong
requests, alone and in chains along links. Then `--cases` bodies of JSON and noise, each to one of the doors that take
a body. Every answer must be one that the document names, and none 5xx but 503. Exits with 1 where one isn't.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.http.keys import new_key  # noqa: E402

NAMES = ("sessions", "exchanges", "prompt", "at", "account_id", "session_id", "system", "explain", "messages", "input")
NAMES += ("user", "role", "content", "texts", "request_data", "request", "metadata", "resourceSpans")
QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
QUIET |= {"phases": [Phase.generate], "derandomize": True}
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=5),
    max_leaves=15,
)


@contextlib.contextmanager
def service(folder: Path, digest: str = "") -> Iterator[int]:
    """The port of a service with its own state, and with one key where a digest is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own = {"XDG_STATE_HOME": str(folder), "STILLWATCH_RATE_LIMIT": "100000"}
    own |= {"STILLWATCH_API_KEYS": f"fuzz:{digest}"} if digest else {}
    command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def documented(port: int, key: str, n_examples: int, folder: Path) -> int:
    """Let schemathesis ask what the document says can be asked; 0 where it has no remark."""
    config = str(Path(__file__).with_name("schemathesis.toml"))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "--no-color"]
    command += ["run", f"http://127.0.0.1:{port}/openapi.json", "--phases", "examples,coverage,fuzzing,stateful"]
    command += ["-n", str(n_examples), "--seed", "1"]
    command += ["--continue-on-failure", *(["-H", f"Authorization: Bearer {key}"] if key else [])]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(command, cwd=folder, env=os.environ | hooks, check=False).returncode


def doors(port: int) -> dict[str, set[str]]:
    """The paths that take a body, with the statuses that the document names."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/openapi.json")
    paths = json.loads(connection.getresponse().read())["paths"]
    return {path: set(own["post"]["responses"]) for path, own in paths.items() if "post" in own}


def bodies(port: int, n_cases: int) -> int:
    """Send bodies of any JSON, of JSON with noise and of noise; how many answers are not as they should be."""
    known = doors(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    n_faults, began_at = 0, time.perf_counter()
    body = st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary())

    @settings(max_examples=n_cases, **QUIET)
    @given(st.sampled_from(sorted(known)), body, st.just(b"") | st.binary(max_size=2))
    def asked(path: str, body: bytes, noise: bytes) -> None:
        nonlocal n_faults
        connection.request(
            "POST", path.replace("{session_id}", "s"), body + noise, {"content-type": "application/json"}
        )
        reply = connection.getresponse()
        reply.read()
        status = str(reply.status)
        seen[path, status] += 1
        n_faults += status not in known[path] or (status >= "500" and status != "503")

    asked()
    for (path, status), count in sorted(seen.items()):
        print(f"{count:7,} {status} {path}")
    print(f"{sum(seen.values()):,} bodies in {time.perf_counter() - began_at:.0f} s, {n_faults} faults")
    return n_faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="bodies of anything")
    parser.add_argument("--examples", type=int, default=100, help="most cases of schemathesis for each operation")
    options = parser.parse_args()
    n_missed = 0
    for key, digest in (("", ""), new_key()) if options.examples else ():
        with TemporaryDirectory() as folder, service(Path(folder), digest) as port:
            print(f"schemathesis, {'with a key' if key else 'without keys'}", flush=True)
            n_missed += documented(port, key, options.examples, Path(folder)) != 0
    with TemporaryDirectory() as folder, service(Path(folder)) as port:
        n_missed += bodies(port, options.cases)
    return min(n_missed, 1)


if __name__ == "__main__":
    sys.exit(main())
