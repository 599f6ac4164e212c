"""`stillwatch queue` and `labels`: verdicts for analysts to decide of, and corpora from what they decided."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from serve.commands.command import DONE, Command
from serve.commands.inputs import read_inputs
from serve.commands.options import add_exchanges
from serve.sessions.wording import counted

if TYPE_CHECKING:
    from serve.adaptation.label_files import Label
    from serve.analyst.review.queue import ReviewQueue

_CHUNK = 5_000
_REVIEW = "the review queue: its file, or its postgresql:// URL"


def _add_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verdicts", nargs="+", type=Path, metavar="VERDICTS", help="what score wrote")
    parser.add_argument("--review", required=True, metavar="DB", help=_REVIEW)


def _queue(options: argparse.Namespace) -> int:
    from serve.scoring.verdict_files import read_verdicts

    queue = _opened(options.review)
    try:
        for path in options.verdicts:
            verdicts = read_verdicts(path)
            flagged = {name for name, is_own in zip(verdicts.account_ids, verdicts.is_flagged, strict=True) if is_own}
            rows = [row for row, name in enumerate(verdicts.account_ids) if name in flagged]
            for at in range(0, len(rows), _CHUNK):
                queue.put([verdicts.verdict(row) for row in rows[at : at + _CHUNK]], stores_all=True)
            n, n_accounts = int(verdicts.is_flagged.sum()), len(flagged)
            of = f"of {n_accounts:,} account{'s' * (n_accounts != 1)}"
            print(f"{path}: {n:,} flagged session{'s' * (n != 1)} {of}, and {len(rows) - n:,} other of theirs")
    finally:
        queue.close()
    return DONE


def _add_labels(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--labels", type=Path, metavar="FILE", help="labels.jsonl, as the analyst's page exports it")
    which.add_argument("--review", metavar="DB", help=_REVIEW)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the corpora to")


def _labels(options: argparse.Namespace) -> int:
    from serve.analyst.labelled_corpora import export

    labels = _decided(options)
    with read_inputs(options) as inputs:
        found = export(labels, inputs.paths, options.out)
    for label, n_sessions in found.n_sessions.items():
        print(f"{counted(n_sessions, f'{label} session')} of {counted(found.n_prompts[label], 'prompt')}")
    if n := found.n_missing:
        print(f"{n:,} labelled session{'s have' if n != 1 else ' has'} no exchange in these files")
    if found.descriptions:
        print(f"python -m train experiment=own 'corpora.described=[{','.join(map(str, found.descriptions))}]'")
    return DONE


def _decided(options: argparse.Namespace) -> tuple[Label, ...]:
    from serve.adaptation.label_files import read_labels

    if options.labels is not None:
        return read_labels(options.labels)
    if "://" not in options.review and not Path(options.review).is_file():
        raise ValueError(f"there is no review queue {options.review}")
    queue = _opened(options.review)
    try:
        return tuple(queue.labels())
    finally:
        queue.close()


def _opened(place: str) -> ReviewQueue:
    try:
        from serve.analyst.review.queue import ReviewQueue
    except ImportError as fault:
        raise ImportError(f"--review needs: pip install 'stillwatch[app]' ({fault.name} is missing)") from fault

    return ReviewQueue(place)


QUEUE = Command("queue", "put verdicts into the review queue of the analyst's page", _add_queue, _queue)
LABELS = Command("labels", "turn analysts' decisions into corpora for training", _add_labels, _labels)
