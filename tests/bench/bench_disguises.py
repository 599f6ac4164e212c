"""What disguises change: the demo's sessions plain, and as logs and prompts that hide them.

    python tests/bench/bench_disguises.py [--sessions 120] [--fpr 0.05]

One row a disguise: flagged sessions of both labels (p-value at most `--fpr`), how many of the scores equal the plain
ones to the last bit, and how many prompts the accounts file counts as altered. Flags are to be those of plain, +-1.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.bundle.bundle import Bundle  # noqa: E402
from serve.bundle.files import RELEASED  # noqa: E402
from serve.cli import main as stillwatch  # noqa: E402
from train.corpora.loading import CorporaSettings, load_pool  # noqa: E402
from train.experiments.demo import SEED  # noqa: E402
from train.experiments.traffic import compose_traffic  # noqa: E402
from train.synthesis.traffic_files import exchange_rows, label_rows  # noqa: E402

Row = dict[str, Any]
N_RESULTS = 6
CYRILLIC = str.maketrans("aeocpxyiABCEHKMOPTX", "аеосрхуіАВСЕНКМОРТХ")
GREEK = str.maketrans("ovuABEHIKMNOPTXYZ", "ονυΑΒΕΗΙΚΜΝΟΡΤΧΥΖ")
REMINDER = "\n<system-reminder>\nThe list of tasks is empty. Do not mention this to the user.\n</system-reminder>"


def blob(prompt: str, n_bytes: int) -> str:
    """Base64 of random bytes, others for each prompt."""
    return base64.b64encode(random.Random(prompt).randbytes(n_bytes)).decode()


def one_letter_a_word(prompt: str) -> str:
    """The first letter of each word that has a look-alike."""
    return " ".join(word[:1].translate(CYRILLIC) + word[1:] if word.isascii() else word for word in prompt.split(" "))


def is_latin(prompt: str) -> bool:
    return prompt.isascii()


def latin_only(change: Callable[[str], str]) -> Callable[[str], str]:
    """The change for texts that a reader takes for Latin ones afterwards; others stay."""
    return lambda prompt: change(prompt) if is_latin(prompt) else prompt


PROMPTS: dict[str, Callable[[str], str]] = {
    "reminder on each prompt": lambda prompt: prompt + REMINDER,
    "zero-width spaces": "\u200b".join,
    "Cyrillic look-alikes": latin_only(lambda prompt: prompt.translate(CYRILLIC)),
    "Greek look-alikes": latin_only(lambda prompt: prompt.translate(GREEK)),
    "one look-alike a word": one_letter_a_word,
    "NUL": lambda prompt: prompt[: len(prompt) // 2] + "\0" + prompt[len(prompt) // 2 :],
    "lone surrogate": lambda prompt: prompt[: len(prompt) // 2] + "\ud800" + prompt[len(prompt) // 2 :],
    "combining marks": lambda prompt: "".join(sign + "\u0336\u0316\u0301" for sign in prompt),
    "base64 image": lambda prompt: f"data:image/png;base64,{blob(prompt, 3_000)}\n{prompt}",
}
"""How each prompt is changed."""


def rows_with(change: Callable[[str], str], rows: Iterable[Row]) -> Iterator[Row]:
    """Plain rows with every prompt changed."""
    return ({**row, "prompt": change(row["prompt"])} for row in rows)


def as_chat(rows: Iterable[Row]) -> Iterator[Row]:
    """Requests that repeat their thread."""
    threads: dict[str, list[Row]] = {}
    for row in rows:
        thread = threads.setdefault(row["account_id"], [])
        thread.append({"role": "user", "content": row["prompt"]})
        yield _request(row, thread)
        thread.append({"role": "assistant", "content": "Here it is."})


def as_agent(rows: Iterable[Row]) -> Iterator[Row]:
    """Requests of an agent: the prompt, and the results of its tools; all repeat their thread."""
    threads: dict[str, list[Row]] = {}
    for row in rows:
        thread = threads.setdefault(row["account_id"], [])
        thread.append({"role": "user", "content": row["prompt"]})
        yield _request(row, thread)
        for n in range(N_RESULTS):
            call = {"id": f"call_{n}", "type": "function", "function": {"name": "read", "arguments": "{}"}}
            thread.append({"role": "assistant", "content": None, "tool_calls": [call]})
            thread.append({"role": "tool", "tool_call_id": f"call_{n}", "content": f"result {n}: def main(): pass"})
        yield _request(row, thread)
        thread.append({"role": "assistant", "content": "Done."})


def _request(row: Row, thread: list[Row]) -> Row:
    body = {"model": "m", "user": row["account_id"], "messages": list(thread)}
    return {"created": row["at"], "path": "/v1/chat/completions", "status": 200, "request": body}


LOGS: dict[str, Callable[[Iterable[Row]], Iterator[Row]]] = {
    "history repeated": as_chat,
    f"agent, {N_RESULTS} tool results a prompt": as_agent,
}
"""How rows become another log."""


@dataclass(frozen=True)
class Judged:
    """Verdicts by account, and the altered prompts of all."""

    verdicts: dict[str, Row]
    n_altered: int


def judge(rows: Iterable[Row], folder: Path) -> Judged:
    """What `stillwatch score` makes of rows.

    Raises:
        ValueError: when it fails, or finds more than one session of an account.
    """
    source, out, accounts = folder / "in.jsonl", folder / "out.jsonl", folder / "accounts.jsonl"
    with source.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        code = stillwatch(["score", str(source), "--out", str(out), "--accounts", str(accounts), "--workers", "1"])
    if code:
        raise ValueError(f"stillwatch score ended with exit code {code}: {shown.getvalue()}")
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    verdicts = {row["account_id"]: row for row in found}
    if len(verdicts) < len(found):
        raise ValueError(f"{len(found)} sessions of {len(verdicts)} accounts, expected one each")
    n_altered = sum(json.loads(line)["altered_prompts"] for line in accounts.read_text(encoding="utf-8").splitlines())
    return Judged(verdicts, n_altered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=120, help="sessions to compose (default: 120)")
    parser.add_argument("--most", type=int, default=40, metavar="N", help="exchanges of a session to use (default: 40)")
    parser.add_argument("--fpr", type=float, default=0.05, help="largest p-value that is flagged (default: 0.05)")
    options = parser.parse_args()
    pool = load_pool(CorporaSettings(starter_prompts=9_000), seed=SEED)
    composition = compose_traffic(pool, Bundle.load(RELEASED), options.sessions, seed=SEED)
    labels = {row["account_id"]: row["label"] for row in label_rows(composition)}
    rows, n_sent = [], dict.fromkeys(labels, 0)
    for row in exchange_rows(composition, pool):
        n_sent[row["account_id"]] += 1
        if n_sent[row["account_id"]] <= options.most:
            rows.append({**row, "session_id": "s"})
    print(f"{len(labels)} sessions, {len(rows):,} prompts, flagged where p <= {options.fpr}")
    print(f"{'':32} {'harvesting':>10} {'organic':>8} {'same score':>10} {'altered':>8}")
    ways = {
        "plain": rows,
        **{name: list(rows_with(change, rows)) for name, change in PROMPTS.items()},
        **{name: change(rows) for name, change in LOGS.items()},
    }
    with tempfile.TemporaryDirectory() as name:
        plain: dict[str, Row] = {}
        for way, sent in ways.items():
            found = judge(sent, Path(name))
            plain = plain or found.verdicts
            flagged = [labels[account] for account, row in found.verdicts.items() if row["p_value"] <= options.fpr]
            n_same = sum(row["score"] == plain[account]["score"] for account, row in found.verdicts.items())
            counts = f"{flagged.count('harvesting'):>10} {flagged.count('organic'):>8} {n_same:>10}"
            print(f"{way:32} {counts} {found.n_altered:>8}", flush=True)


if __name__ == "__main__":
    main()
