"""The service under attack: `make bench-attacks`.

Each attack goes against one service for at least `--seconds`, again and again, while another process asks
`/healthz` every 50 ms on new connections. Printed are attacks made, their statuses, the longest one's seconds, the
service's memory, how soon it was healthy, and two numbers that tell a busy machine from a busy service: how soon a bare
server answers that does nothing, and the processor time that all threads of the service took while a probe waited. On
cores that do nothing else no probe waits longer than that time. Exits with 1 where an answer is 5xx but 503, the 99th
percentile of the shorter of both is 200 ms or more, or memory grows by more than `MEMORY_MIB`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
AIM_MS, MEMORY_MIB = 200.0, 600
EXCHANGES, SCORE = "/v1/sessions/s/exchanges", "/v1/score"
Statuses = collections.Counter[str]
JSON = {"content-type": "application/json"}
GZIP = JSON | {"content-encoding": "gzip"}


def asked(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> str:
    """The status of one POST, or how it ended without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, body, headers or JSON)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as fault:
        return type(fault).__name__
    finally:
        connection.close()


def told(prompt: str, n: int = 1) -> bytes:
    exchanges = [{"prompt": prompt}] * n
    return json.dumps({"account_id": "a", "exchanges": exchanges}, ensure_ascii=False).encode()


def repeated(path: str, body: bytes, headers: dict[str, str] | None = None, at_once: int = 4) -> Attack:
    """The same request from several clients at once."""

    def attack(port: int, statuses: Statuses) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            statuses.update(pool.map(lambda _: asked(port, path, body, headers), range(at_once)))

    return attack


def faults_without_end() -> bytes:
    row = '{"session_id":"s","account_id":"a","exchanges":[' + ",".join(["1"] * 16_200) + "]}"
    return gzip.compress(('{"sessions":[' + ",".join([row] * 256) + "]}").encode(), 9)


def bomb() -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(512)) + squeeze.flush()


def values() -> bytes:
    return b'{"sessions":[' + b"[1]," * 62_000 + b"{}]}"


def long_texts() -> bytes:
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, 99_999, dtype=np.uint8).tobytes().decode()
    return told(letters, 80)


def half_sent(port: int, statuses: Statuses) -> None:
    """300 heads without an end; each is ended by the service."""
    ended_by_it(port, statuses, [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"] * 300)


def stalled(port: int, statuses: Statuses) -> None:
    """Bodies of 8 MiB less one byte that never end."""
    size = 8 << 20
    head = f"POST {SCORE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {size}"
    ended_by_it(port, statuses, [head.encode() + b"\r\n\r\n" + bytes(size - 1)] * 24)


def ended_by_it(port: int, statuses: Statuses, parts: list[bytes]) -> None:
    with contextlib.ExitStack() as stack:
        begun = []
        for part in parts:
            own = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            with contextlib.suppress(OSError):
                own.sendall(part)
            begun.append(own)
        for own in begun:
            try:
                statuses[own.recv(64)[9:12].decode() or "closed"] += 1
            except OSError as fault:
                statuses[type(fault).__name__] += 1


def crowd(port: int, statuses: Statuses) -> None:
    """64 clients that ask again at once, or when told to."""
    rows = [{"prompt": f"{n} {'write about the history of some town ' * 3}"} for n in range(50)]
    body = json.dumps({"sessions": [{"session_id": "s", "account_id": "a", "exchanges": rows}]}).encode()
    head = f"POST {SCORE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    end = time.monotonic() + 10

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(head.encode() + b"\r\n\r\n" + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
            statuses[lines[0].split(" ")[1]] += 1
            await asyncio.sleep(float(fields.get("retry-after", 0)))
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(ask() for _ in range(64)))

    asyncio.run(all_of_them())


def reloaded(port: int, statuses: Statuses) -> None:
    """SIGHUP, which reads and tries the bundle anew."""
    os.kill(SERVICE[port], signal.SIGHUP)
    time.sleep(2)
    statuses["reload"] += 1


def idle(port: int, statuses: Statuses) -> None:
    time.sleep(2)


Attack = Callable[[int, Statuses], None]
SERVICE: dict[int, int] = {}
ATTACKS: dict[str, Callable[[], Attack]] = {
    "nothing": lambda: idle,
    "gzip of a million faults (errors_amp)": lambda: repeated(SCORE, faults_without_end(), GZIP),
    "gzip of 512 MiB (abuse)": lambda: repeated(SCORE, bomb(), GZIP),
    "250,000 JSON values": lambda: repeated(SCORE, values()),
    "nested 100,000 deep (abuse)": lambda: repeated(SCORE, b"[" * 100_000 + b"]" * 100_000),
    "lone surrogates": lambda: repeated(EXCHANGES, told("").replace(b'""', b'"' + b"\\ud800" * 1_000_000 + b'"')),
    "combining marks (http_nfkc)": lambda: repeated(EXCHANGES, told("a" + "\u0300\u0316" * 49_999)),
    "U+FDFA": lambda: repeated(EXCHANGES, told("\ufdfa" * 100_000)),
    "8 MB of letters": lambda: repeated(EXCHANGES, long_texts()),
    "300 half-sent heads (loris)": lambda: half_sent,
    "24 stalled bodies (bodies_mem)": lambda: stalled,
    "64 clients": lambda: crowd,
    "SIGHUP": lambda: reloaded,
}

BARE = """
import asyncio, sys
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\nconnection: close\\r\\n\\r\\n")
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""

PROBE = """
import glob, json, socket, sys, threading, time
own, bare, pid = map(int, sys.argv[1:])
def used():
    found = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            found += int(open(path).read().split()[0])
        except OSError:
            pass
    return found / 1e9
def ask(port):
    began_at = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as own:
            own.sendall(b"GET /healthz HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
            is_well = own.recv(4096)[9:12] == b"200"
            while own.recv(4096):
                pass
    except OSError:
        is_well = False
    return time.perf_counter() - began_at if is_well else 60.0
found = {"own": [], "bare": [], "used": []}
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
while not end.wait(0.05):
    before = used()
    found["own"].append(ask(own))
    found["used"].append(used() - before)
    found["bare"].append(ask(bare))
print(json.dumps(found))
"""


@contextlib.contextmanager
def service(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service with the bundle that ships, and its own state."""
    command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port)]
    own = os.environ | {"XDG_STATE_HOME": str(folder)}
    with subprocess.Popen(command, cwd=ROOT, env=own, stderr=subprocess.DEVNULL) as process:
        try:
            while asked(port, SCORE, b"{}") != "422":
                time.sleep(0.2)
            SERVICE[port] = process.pid
            yield process
        finally:
            process.terminate()


def memory_mib(pid: int, field: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) >> 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measured(name: str, port: int, bare: int, seconds: float) -> bool:
    """Attack a service, print a row; whether all was as it should be."""
    attack, pid = ATTACKS[name](), SERVICE[port]
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before, statuses, longest, n = memory_mib(pid), Statuses(), 0.0, 0
    command = [sys.executable, "-c", PROBE, str(port), str(bare), str(pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probe:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began_at = time.monotonic()
            attack(port, statuses)
            longest, n = max(longest, time.monotonic() - began_at), n + 1
        probed = {kind: np.array(times) * 1e3 for kind, times in json.loads(probe.communicate(b"")[0]).items()}
    peak, after = memory_mib(pid, "VmHWM"), memory_mib(pid)
    p50, (p99, bare_p99, used_p99) = np.median(probed["own"]), (np.quantile(own, 0.99) for own in probed.values())
    free_p99 = np.quantile(np.minimum(probed["own"], probed["used"]), 0.99)
    shown = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    print(
        f"| {name} | {n} | {shown} | {longest:.1f} s | {before} / {peak} / {after} MiB |"
        f" {len(probed['own'])} | {p50:.0f} | {p99:.0f} | {bare_p99:.0f} | {used_p99:.0f} | {os.getloadavg()[0]:.1f} |",
        flush=True,
    )
    is_answered = not any(status.startswith("5") and status != "503" for status in statuses)
    return is_answered and free_p99 < AIM_MS and peak - before < MEMORY_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="shortest time of each attack")
    parser.add_argument("--only", nargs="*", default=[], help="words of the names of attacks")
    options = parser.parse_args()
    port, bare = free_port(), free_port()
    names = [name for name in ATTACKS if all(word in name for word in options.only)]
    print(
        "| attack | times | answers | longest | memory before / peak / after | probes | healthz p50 ms | p99 ms |"
        " bare server p99 ms | processor p99 ms | load |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    with subprocess.Popen([sys.executable, "-c", BARE, str(bare)]) as floor, TemporaryDirectory() as folder:
        try:
            time.sleep(1)
            with service(Path(folder), port):
                missed = [name for name in names if not measured(name, port, bare, options.seconds)]
        finally:
            floor.terminate()
    print(f"missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
