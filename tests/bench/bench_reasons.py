"""Whether reasons hold: over composed sessions, what is said beside its numbers, and what removing prompts does.

Two sets are judged by the released bundle: the traffic of `make demo`, and other sessions, of the starter corpus or
of a folder of real corpora. Four things are measured:

- of reasons that are not marked weak, how many show a value outside the benign range that they quote (aim: 0.95);
- the largest difference between the sum that is shown and the log-odds of the score (aim: none but rounding);
- sentences with a number that no session of that size can have (aim: 0);
- of flagged sessions, how many lose more by the removal of the three prompts that are named, by `explain` and in a
  verdict, than by that of three drawn at random: than the mean of 10 draws, and draw by draw (aim: 0.90).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logit

from serve.io.reading import read_paths
from serve.scoring.evidence import N_PROMPTS
from serve.scoring.explanation import Reason, Sum
from serve.scoring.removal import weightiest
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.scoring.verdict import Verdict
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline
from train.corpora.loading import CorporaSettings, load_pool
from train.experiments.demo import N_SESSIONS, SEED
from train.experiments.traffic import compose_traffic
from train.synthesis.traffic_files import EXCHANGES, write_traffic

N_DRAWS = 10
_NUMBER = r"[-+]?[\d,]*\.?\d+"
_SAID = re.compile(rf"benign sessions of this size have ({_NUMBER})(?: %)?(?: to ({_NUMBER})(?: %)?)?\.$")
_AT_LEAST = {"two": 2, "five": 5, "eight": 8, "quarter": 4, "tenth": 10}


@dataclass(frozen=True)
class Held:
    """What was found of some verdicts: reasons in all, unmarked ones, those outside their range, and faults."""

    n_reasons: int
    n_unmarked: int
    n_outside: int
    largest_error: float
    n_impossible: int
    n_without_counter: int


def composed(n_sessions: int, seed: int, scorer: Scorer, corpora: str | None) -> Sessions:
    """Sessions of every kind, length and dilution, read back from a file."""
    given = CorporaSettings(dir=corpora, starter=corpora is None, starter_prompts=9_000)
    pool = load_pool(given, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        write_traffic(compose_traffic(pool, scorer.bundle, n_sessions, seed=seed), pool, Path(folder))
        tables = [batch.table for batch in read_paths([Path(folder) / EXCHANGES])]
    timeline = Timeline.of(pa.concat_tables(tables))
    return timeline.sessions(0, len(timeline))


def judged(sessions: Sessions, scorer: Scorer) -> list[Verdict]:
    """Verdicts with reasons, in order."""
    parts = sessions.chunks(CHUNK_PROMPTS)
    return [verdict for part in parts for verdict in scorer.judge(part, explain_all=True)]


def held(verdicts: list[Verdict]) -> Held:
    """Look at every sentence and every sum."""
    pairs = [(verdict, reason) for verdict in verdicts for reason in verdict.reasons]
    unmarked = [pair for pair in pairs if not pair[1].is_weak]
    return Held(
        n_reasons=len(pairs),
        n_unmarked=len(unmarked),
        n_outside=sum(_is_outside(reason) for _, reason in unmarked),
        largest_error=max(map(_error, verdicts)),
        n_impossible=sum(_is_impossible(verdict, reason) for verdict, reason in pairs),
        n_without_counter=sum(
            all(reason.contribution * (logit(v.score) - (v.baseline or 0.0)) >= 0 for reason in v.reasons)
            for v in verdicts
        ),
    )


def _numbers(reason: Reason) -> tuple[float, float, float]:
    """The value that a sentence shows, and the range."""
    said = reason.sentence.split("; 90 %")[0].replace("(scale -8 to +8)", "").replace("(1 is the same)", "")
    found = _SAID.search(reason.sentence)
    value = re.findall(_NUMBER, said.replace("(0 is the same subject)", ""))
    if found is None or not value:
        raise ValueError(f"a sentence on {reason.name} shows no value or no range")
    low, high, shown = (float(text.replace(",", "")) for text in (found[1], found[2] or found[1], value[0]))
    return shown, low, high


def _is_outside(reason: Reason) -> bool:
    shown, low, high = _numbers(reason)
    return not low <= shown <= high and not reason.benign_low <= reason.value <= reason.benign_high


def _error(verdict: Verdict) -> float:
    """How far what is shown is from adding up to the log-odds of the score, beyond rounding to hundredths."""
    shown = Sum.of(verdict.explanation)
    if shown is None:
        return float("inf")
    lost = round(sum((shown.baseline, *shown.contributions, shown.rest)) - shown.log_odds, 6)
    return abs(lost) + max(0.0, abs(shown.log_odds - float(logit(verdict.score))) - 0.005000001)


def _is_impossible(verdict: Verdict, reason: Reason) -> bool:
    said = reason.sentence.split(";")[0]
    least = max((n for word, n in _AT_LEAST.items() if re.search(rf"\b{word}\b", said.lower())), default=1)
    counted = re.match(r"([\d,]+) of ([\d,]+) prompts", said)
    counts = [int(text.replace(",", "")) for text in counted.groups()] if counted else [0, 0]
    limit = 100.0 if " %" in said else 8.0 if "scale" in said else 1.0 if "similarity" in said else float("inf")
    too_much = any(abs(number) > limit for number in _numbers(reason)) or counts[0] > counts[1]
    return least > verdict.n_exchanges or counts[1] > verdict.n_exchanges or too_much


@dataclass(frozen=True)
class Removal:
    """Log-odds that a flagged session loses: by the prompts that `explain` names, by those that a verdict names (by
    their own scores), and by each draw of as many others."""

    explained: float
    named: float
    drawn: tuple[float, ...]


def removals(sessions: Sessions, verdicts: list[Verdict], scorer: Scorer, seed: int) -> Iterator[Removal]:
    """Of every flagged session of more than three prompts."""
    rng = np.random.default_rng(seed)
    for index, verdict in enumerate(verdicts):
        if not verdict.is_harvesting or verdict.n_exchanges <= N_PROMPTS:
            continue
        named = np.array([prompt.position - 1 for prompt in verdict.evidence])
        draws = [rng.choice(verdict.n_exchanges, N_PROMPTS, replace=False) for _ in range(N_DRAWS)]
        own = sessions.part(index, index + 1)
        explained = np.array([weight.position - 1 for weight in weightiest(scorer, own)])
        fewer = [_without(own, taken) for taken in (explained, named, *draws)]
        scores = [scorer.judge(part).score[0] for part in fewer]
        first, second, *others = (float(logit(verdict.score) - logit(score)) for score in scores)
        yield Removal(first, second, tuple(others))


def _without(session: Sessions, taken: NDArray[np.int64]) -> Sessions:
    kept = np.setdiff1d(np.arange(len(session.prompts)), taken)
    prompts = tuple(session.prompts[place] for place in kept.tolist())
    offsets = np.array([0, len(kept)], np.int64)
    return Sessions(session.session_ids, session.account_ids, offsets, prompts, session.at[kept])


def lines(name: str, verdicts: list[Verdict], found: list[Removal]) -> Iterator[str]:
    """The rows of a table."""
    own = held(verdicts)
    yield f"{name}: {len(verdicts)} sessions, {sum(verdict.is_harvesting for verdict in verdicts)} flagged"
    yield f"  reasons                                     {own.n_reasons}, {own.n_unmarked} unmarked"
    yield f"  unmarked ones outside their benign range    {own.n_outside / max(own.n_unmarked, 1):.3f}"
    yield f"  largest error of a sum                      {own.largest_error:.6f}"
    yield f"  sentences with impossible numbers           {own.n_impossible}"
    yield f"  sessions without a reason against           {own.n_without_counter}"
    if found:
        drawn = np.array([own.drawn for own in found])
        yield f"  flagged sessions with prompts removed       {len(found)}"
        yield f"{'  costs more than random ones, in log-odds':<46}mean draw  draw by draw  median lost"
        for source in ("explained", "named"):
            lost = np.array([getattr(own, source) for own in found])
            shares = f"{(lost > drawn.mean(axis=1)).mean():9.3f}  {(lost[:, None] > drawn).mean():12.3f}"
            yield f"{'    ' + source:<46}{shares}  {np.median(lost):11.2f}"
        yield f"{'    drawn':<46}{np.median(drawn):36.2f}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=300, help="sessions beside the demo's (default 300)")
    parser.add_argument("--corpora", metavar="DIR", help="folder with CARDS.json for these (default: starter corpus)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fpr", type=float, help="share of benign sessions to flag (default: the bundle's)")
    given = parser.parse_args()
    scorer = load(fpr=given.fpr)
    sets = (("demo", N_SESSIONS, SEED, None), ("composed", given.sessions, given.seed, given.corpora))
    for name, n_sessions, seed, corpora in sets:
        sessions = composed(n_sessions, seed, scorer, corpora)
        verdicts = judged(sessions, scorer)
        found = list(removals(sessions, verdicts, scorer, given.seed))
        sys.stdout.write("\n".join(lines(name, verdicts, found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
