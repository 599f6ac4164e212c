"""The other process of a bundle's trial: it checks, reads and judges, and answers with one line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import numpy as np

from serve.bundle.bundle import Bundle
from serve.bundle.files import BundleError
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session
from serve.sessions.size_classes import SIZE_EDGES

SECONDS, BYTES = 100, 16 << 30
_PROMPTS = (
    "Sort a list of numbers in Python.", "What is the weather like in spring?", "Write a poem about the sea.", "",
    "Explain step by step why the sky is blue, and give three examples.", "日本の首都はどこですか", "a" * 600,
    "Translate to German: good morning", "SELECT name FROM users WHERE id = 7", "🙂 thanks!",
)  # fmt: skip


def trial(folder: Path) -> None:
    """Check a bundle's content, read all of it, and judge a session of each size class with it.

    Raises:
        BundleError: saying what is wrong.
    """
    bundle = Bundle.untried(folder)
    bundle.training_rows()
    bundle.prompt_sample()
    scorer = Scorer(bundle)
    sessions = [_session(n) for n in SIZE_EDGES]
    for verdict in scorer.score_many(sessions):
        _check(verdict, folder)


def _session(n: int) -> Session:
    exchanges = tuple(Exchange(f"{_PROMPTS[i % len(_PROMPTS)]} {i}", at=1.7e9 + 60.0 * i) for i in range(n))
    return Session("trial", f"trial-{n}", exchanges)


def _check(verdict: Verdict, folder: Path) -> None:
    shares = {"score": verdict.score, "p-value": verdict.p_value, "threshold": verdict.threshold}
    shares |= {f"coverage of {area}": share for area, share in verdict.coverage.items()}
    shares |= {f"share of {area}": share for area, share in verdict.area_share.items()}
    for name, share in shares.items():
        if not -1e-9 <= share <= 1.0 + 1e-9:  # a NaN, too
            raise BundleError(f"{folder}: a trial verdict has {name} {share}, expected 0 to 1")
    numbers = [number for reason in verdict.reasons for number in (reason.value, reason.contribution)]
    sums = [number for number in (verdict.baseline, verdict.rest) if number is not None]
    if not np.isfinite(numbers + sums).all():
        raise BundleError(f"{folder}: a trial verdict has a reason that isn't a finite number")


def lower(kind: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    own = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (own, own))


def main() -> None:
    """Answer on what standard output was; whatever libraries print is dropped."""
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, BYTES)):
        lower(kind, limit)
    folder = Path(sys.argv[2])
    fault = None
    try:
        trial(folder)
    except MemoryError:
        fault = f"{folder}: a trial verdict needs more than {BYTES >> 30} GiB"
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        OSError,
    ) as found:
        fault = str(found) if isinstance(found, BundleError) else f"{folder}: {type(found).__name__} in a trial verdict"
    os.write(answer, json.dumps({"fault": fault if fault is None else fault[:900]}).encode())


if __name__ == "__main__":
    main()
