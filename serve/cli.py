"""The `stillwatch` command.

Exit codes: 0 all is written; 1 `drift` found drift; 2 the request, an input, an output or the bundle isn't usable,
nothing was done; 3 all is written, but more than 5 % of the rows were rejected; 4 the job stopped half-way, `--resume`
goes on; 130 Ctrl-C or 143 SIGTERM, likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from serve.io.inputs import Inputs

DONE, DRIFTED, UNUSABLE, TOO_MANY_REJECTS, STOPPED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, what it does in a line, its options, and what runs it and returns the exit code."""

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; faults are one line on stderr, never a traceback, never prompt text."""
    options = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return _fail(f"interrupted{_tip(options)}", INTERRUPTED)
    except _Terminated:
        return _fail(f"terminated{_tip(options)}", TERMINATED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit doesn't write to it again
        return DONE
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as fault:
        from serve.batch.job import JobStoppedError

        return _fail(str(fault), STOPPED if isinstance(fault, JobStoppedError) else UNUSABLE)
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _tip(options: argparse.Namespace) -> str:
    """How to go on, where a command left something to go on from."""
    if not hasattr(options, "resume") or not options.out.with_name(f"_{options.out.name}.work").is_dir():
        return ""
    return "; what is done is kept, go on with --resume"


def _fail(text: str, code: int) -> int:
    print("stillwatch:", " ".join(text.split()) or "out of memory", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stillwatch",
        description="Tells API sessions that harvest a model's capabilities from organic use.",
        epilog="Exit codes: 0 done, 1 drift found, 2 not usable, 3 done but over 5 %% rejects, 4 stopped, 130 Ctrl-C.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.help, description=command.help)
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="bundle to judge with (default: the released one)")


def _add_exchanges(parser: argparse.ArgumentParser, metavar: str) -> None:
    parser.add_argument(
        "exchanges",
        nargs="+",
        metavar=metavar,
        help="rows or logs: files, folders, patterns, URLs, or - for standard input",
    )
    parser.add_argument("--format", metavar="NAME", help="read as this format (default: what it looks like)")
    parser.add_argument("--columns", metavar="FIELD=COLUMN,...", help="columns of a table: account_id=user,prompt=text")


@contextmanager
def _inputs(options: argparse.Namespace, out: Path | None = None, *, each_file: bool = False) -> Iterator[Inputs]:
    """What a command is to read, as plain rows; imported logs lie beside `out` until the command is done."""
    from serve.io.importing import Choice
    from serve.io.inputs import parsed_columns, prepared

    choice = Choice(options.format, parsed_columns(options.columns))
    with ExitStack() as stack:
        if out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillwatch."))) / "import"
        else:
            folder = out.with_name(f"_{out.name}.import")
        resume = bool(getattr(options, "resume", False))
        inputs = stack.enter_context(prepared(options.exchanges, folder, choice, each_file=each_file, resume=resume))
        yield inputs


def _end(inputs: Inputs, is_clean: bool) -> int:
    """Say what logs were read as; the exit code."""
    from serve.jobs.summary import MAX_REJECTED_SHARE

    for line in inputs.lines():
        print(line)
    return DONE if is_clean and inputs.is_clean(MAX_REJECTED_SHARE) else TOO_MANY_REJECTS


# score


def _add_score(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="VERDICTS", help="file to write, .parquet or .jsonl")
    parser.add_argument("--accounts", type=Path, metavar="FILE", help="roll-up by account, .parquet or .jsonl")
    parser.add_argument(
        "--rejects", type=Path, metavar="FILE", help="rejected rows, JSONL (default: OUT.rejects.jsonl)"
    )
    _add_bundle(parser)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where the work is done")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--sample", type=float, default=1.0, metavar="SHARE", help="look at this share of accounts only"
    )
    parser.add_argument(
        "--indicators", type=Path, metavar="FILE", help="campaigns to look for; matches go to VERDICTS.matches.jsonl"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a job that stopped")


def _score(options: argparse.Namespace) -> int:
    from serve.batch.job import Job, run
    from serve.bundle.bundle import RELEASED
    from serve.jobs.progress import Progress
    from serve.jobs.summary import summary_text

    job = Job(
        inputs=tuple(map(Path, options.exchanges)),
        out=options.out,
        rejects=options.rejects or options.out.with_name(f"{options.out.name}.rejects.jsonl"),
        accounts=options.accounts,
        indicators=options.indicators,
        bundle=options.bundle or RELEASED,
        engine=options.engine,
        sample=options.sample,
        resume=options.resume,
        **({} if options.workers is None else {"n_workers": options.workers}),
    )
    with _inputs(options, options.out) as inputs:
        _warn(inputs.paths)
        summary = run(replace(job, inputs=inputs.paths), Progress(sys.stderr))
        _append(job.rejects, inputs.rejects)
    print(summary_text(summary))
    return _end(inputs, summary.is_clean)


def _warn(paths: Sequence[Path]) -> None:
    """Say it on stderr where plain rows repeat the history of their sessions."""
    from serve.io.repetition import warning

    text = warning(paths)
    if text is not None:
        print(f"stillwatch: {text}", file=sys.stderr)


def _append(rejects: Path, more: Path) -> None:
    """Add the rejects of imported logs to those of the job."""
    if more.exists() and more.stat().st_size:
        with rejects.open("ab") as file:
            file.write(more.read_bytes())


# explain


def _add_explain(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--session", required=True, metavar="ID", help="session_id, given or as in the verdicts")
    _add_bundle(parser)


def _explain(options: argparse.Namespace) -> int:
    from rich.console import Console

    from serve.io.discovery import discover
    from serve.io.reading import select
    from serve.scoring.scorer import load
    from serve.scoring.verdict_card import card, growing, painted, plain
    from serve.sessions.sessionizing import Timeline

    with _inputs(options) as inputs:
        selected = select(discover(inputs.paths).sources, session_id=options.session)
    timeline = Timeline.of(selected.table)
    own = [index for index, name in enumerate(timeline.session_ids.to_pylist()) if name == options.session]
    if selected.n_rejected:
        print(f"stillwatch: {selected.n_rejected:,} rows can't be used (score lists them)", file=sys.stderr)
    if not own:
        raise ValueError(f"no session {plain(options.session)} in {', '.join(map(str, options.exchanges))}")
    scorer = load(options.bundle)
    console = Console(soft_wrap=True, highlight=False)
    for index in own:
        sessions = timeline.sessions(index, index + 1)
        verdict = scorer.judge(sessions, explain_all=True).verdict(0)
        growth = [float(scorer.judge(beginning).score[0]) for beginning in growing(sessions)]
        with console.capture() as shown:  # so that a pipe which closes is print's to notice
            console.print(painted(card(verdict, growth), verdict), end="\n\n")
        print(shown.get(), end="")
    return DONE


# campaigns


def _add_campaigns(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="CAMPAIGNS", help="file to write, .json")
    parser.add_argument(
        "--members", type=Path, metavar="FILE", help="account, campaign, confidence; .parquet or .jsonl"
    )
    parser.add_argument(
        "--rejects", type=Path, metavar="FILE", help="rejected rows, JSONL (default: OUT.rejects.jsonl)"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="DIR", help="sketches kept between runs, so that only new files are read"
    )
    parser.add_argument("--indicators", type=Path, metavar="FILE", help="hashes and profiles to share, JSON to write")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    _add_bundle(parser)


def _campaigns(options: argparse.Namespace) -> int:
    import time

    from serve.bundle.bundle import RELEASED
    from serve.campaigns.job import CampaignJob, run, summary_text
    from serve.jobs.progress import Progress

    began_at = time.monotonic()
    job = CampaignJob(
        inputs=tuple(map(Path, options.exchanges)),
        out=options.out,
        rejects=options.rejects or options.out.with_name(f"{options.out.name}.rejects.jsonl"),
        members=options.members,
        indicators=options.indicators,
        archive=options.archive,
        bundle=options.bundle or RELEASED,
        **({} if options.workers is None else {"n_workers": options.workers}),
    )
    with _inputs(options, options.out, each_file=options.archive is not None) as inputs:
        _warn(inputs.paths)
        outcome = run(replace(job, inputs=inputs.paths), Progress(sys.stderr))
        _append(job.rejects, inputs.rejects)
    print(summary_text(outcome, time.monotonic() - began_at))
    return _end(inputs, outcome.is_clean)


# report


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verdicts", type=Path, metavar="VERDICTS", help="what score wrote, .parquet or .jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="page to write, .html")
    parser.add_argument(
        "--exchanges", nargs="+", type=Path, default=(), metavar="FILE", help="what was judged, for the map and skills"
    )
    parser.add_argument("--accounts", type=Path, metavar="FILE", help="roll-up by account that score wrote")
    parser.add_argument("--campaigns", type=Path, metavar="FILE", help="what campaigns wrote, .json")
    _add_bundle(parser)


def _report(options: argparse.Namespace) -> int:
    from serve.analyst.report import Request, write_report
    from serve.bundle.bundle import RELEASED

    page = write_report(Request(
        options.verdicts, options.out, tuple(options.exchanges), options.accounts, options.campaigns,
        options.bundle or RELEASED,
    ))  # fmt: skip
    size = options.out.stat().st_size
    print(f"{options.out} ({size:,} bytes): {page.n_flagged:,} of {page.n_sessions:,} sessions flagged")
    return DONE


# drift


def _add_drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "verdicts", nargs="+", type=Path, metavar="VERDICTS", help="what score wrote, .parquet or .jsonl"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="compare with earlier verdicts, not with training"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="everything that was compared, JSON to write")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="features and areas to show (default 10)")
    _add_bundle(parser)
    parser.epilog = "Exit codes: 0 no drift or too few sessions to tell, 1 drift, 2 not usable."


def _drift(options: argparse.Namespace) -> int:
    from serve.bundle.bundle import RELEASED, Bundle
    from serve.monitoring.drift import Reference, Traffic, drift, drift_text, write_drift

    bundle = Bundle.load(options.bundle or RELEASED)
    traffic = Traffic.read(options.verdicts, bundle)
    if options.reference is not None:
        usual = Reference.of_traffic(Traffic.read([options.reference], bundle))
    elif bundle.benign is not None:
        usual = Reference.of_bundle(bundle.benign, traffic.n_exchanges)
    else:
        raise ValueError(f"bundle {bundle.bundle_id} knows no benign profile, expected one: give --reference")
    found = drift(traffic, usual, bundle)
    print(drift_text(found, n_shown=options.top))
    if options.out is not None:
        write_drift(found, options.out)
    return DRIFTED if found.alarms else DONE


# map


def _add_map(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE", help="page to write, .html")
    _add_bundle(parser)
    parser.add_argument(
        "--sample", type=float, default=1.0, metavar="SHARE", help="look at this share of accounts only"
    )


def _map(options: argparse.Namespace) -> int:
    from serve.analyst.map_page import check_page, map_traffic, write_map
    from serve.bundle.bundle import RELEASED, Bundle
    from serve.jobs.summary import MAX_REJECTED_SHARE

    check_page(options.out)
    bundle = Bundle.load(options.bundle or RELEASED)
    with _inputs(options) as inputs:
        placed = map_traffic(inputs.paths, bundle, share=options.sample)
    write_map(placed, bundle, options.out)
    reached = int((placed.cells > 0).sum())
    print(
        f"placed   {placed.n_prompts:,} prompts of {len(placed.sessions):,} sessions, {placed.n_none:,} of them nowhere"
    )
    print(f"reached  {reached:,} of {len(placed.cells):,} cells")
    print(f"wrote    {options.out}")
    return _end(inputs, placed.n_rejected <= MAX_REJECTED_SHARE * (placed.n_rejected + placed.n_read))


# serve


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1; any other needs keys)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: 8080)")
    _add_bundle(parser)
    parser.add_argument("--make-key", metavar="NAME", help="print a new API key and its entry for STILLWATCH_API_KEYS")
    parser.epilog = (
        "Environment: STILLWATCH_API_KEYS (NAME:SHA256,...), STILLWATCH_SECRET, STILLWATCH_REDIS_URL,"
        " STILLWATCH_RATE_LIMIT, _WORKERS, _QUEUE, _TTL_SECONDS, _STORE_MIB; of the page at / STILLWATCH_FEEDBACK (a"
        " file that keeps marks) and STILLWATCH_CAMPAIGNS (what campaigns wrote). SIGHUP reloads the bundle."
    )


def _serve(options: argparse.Namespace) -> int:
    try:
        from serve.http.keys import ApiKeys, new_key
        from serve.http.server import run, settings_of
    except ImportError as fault:
        raise ImportError(f"serving needs: pip install 'stillwatch[app]' ({fault.name} is missing)") from fault

    if options.make_key is not None:
        key, digest = new_key()
        ApiKeys.parse(entry := f"{options.make_key}:{digest}")
        print(f"key    {key}\nentry  {entry}")
        return DONE
    run(settings_of(options.host, options.port, options.bundle))
    return DONE


# labels


def _add_labels(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--feedback", type=Path, required=True, metavar="DB", help="store that the analyst's page kept")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write corpora to")


def _labels(options: argparse.Namespace) -> int:
    from serve.analyst.feedback import Feedback, export

    if not options.feedback.is_file():
        raise ValueError(f"{options.feedback} is not there, expected a store of feedback")
    with _inputs(options) as inputs:
        found = export(Feedback(options.feedback).marks(), inputs.paths, options.out)
    for label, n_sessions in found.n_sessions.items():
        print(f"{n_sessions:,} {label} session{'s' * (n_sessions != 1)} of {found.n_prompts[label]:,} prompts")
    if n := found.n_missing:
        print(f"{n:,} marked session{'s have' if n != 1 else ' has'} no exchange there")
    if found.descriptions:
        print(f"python -m train corpora.described=[{','.join(map(str, found.descriptions))}]")
    return DONE


# adapt


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "BENIGN")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to make")
    parser.add_argument(
        "--harvesting",
        nargs="+",
        type=Path,
        default=(),
        metavar="FILE",
        help="exchanges of confirmed campaigns' accounts",
    )
    parser.add_argument("--fpr", type=float, default=0.01, metavar="SHARE", help="benign sessions to flag (0.01)")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="bundle to start from (default: the released one)")


def _adapt(options: argparse.Namespace) -> int:
    from serve.adaptation.adapt import Adaptation, adapt, adaptation_text
    from serve.bundle.bundle import RELEASED
    from serve.jobs.summary import MAX_REJECTED_SHARE

    def progress(stage: str) -> None:
        print(f"adapt: {stage} ...", file=sys.stderr, flush=True)

    parent = options.bundle or RELEASED
    with ExitStack() as stack:
        inputs = stack.enter_context(_inputs(options))
        confirmed: tuple[Path, ...] = ()
        if options.harvesting:
            other = argparse.Namespace(**{**vars(options), "exchanges": options.harvesting})
            confirmed = stack.enter_context(_inputs(other)).paths
        done = adapt(Adaptation(inputs.paths, options.out, parent, options.fpr, confirmed), progress)
    print(adaptation_text(done, options.fpr))
    return _end(inputs, done.n_rejected <= MAX_REJECTED_SHARE * done.n_rows)


# import, formats


def _add_import(parser: argparse.ArgumentParser) -> None:
    _add_exchanges(parser, "LOGS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="rows to write, .parquet or .jsonl")
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="rows that can't be understood, JSONL to write")


def _import(options: argparse.Namespace) -> int:
    from serve.io.importing import Choice
    from serve.io.inputs import import_to, parsed_columns

    inputs = import_to(
        options.exchanges, options.out, Choice(options.format, parsed_columns(options.columns)), options.rejects
    )
    code = _end(inputs, is_clean=True)
    print(f"wrote {options.out} ({options.out.stat().st_size:,} bytes)")
    return code


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A format is recognised by what a file holds, not by its name."


def _formats(options: argparse.Namespace) -> int:
    from serve.io.formats import FORMATS

    width = max(len(form.name) for form in FORMATS)
    for form in FORMATS:
        print(f"{form.name:<{width}}  {form.title}")
    return DONE


# bundle


def _add_bundle_action(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "verify"), help="what to do with it")
    parser.add_argument("folder", type=Path, metavar="DIR", help="bundle folder")


def _bundle(options: argparse.Namespace) -> int:
    from serve.bundle.bundle import examine, verify

    manifest = (examine if options.action == "verify" else verify)(options.folder)
    size = sum(file["size"] for file in manifest["files"].values())
    n_files = len(manifest["files"])
    if options.action == "verify":
        print(f"bundle {manifest['bundle_id']}: {n_files} files, {size:,} bytes, all as the manifest lists them")
        print("a trial verdict in a process of its own passed")
        return DONE
    shown = {name: value for name, value in manifest.items() if name != "files"}
    shown |= {"files": {name: file["size"] for name, file in manifest["files"].items()}}
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return DONE


COMMANDS = (
    Command("score", "judge the sessions in files of exchanges", _add_score, _score),
    Command("explain", "show one session's verdict with its reasons", _add_explain, _explain),
    Command("campaigns", "find accounts that harvest together", _add_campaigns, _campaigns),
    Command("report", "show verdicts as a page to read and print", _add_report, _report),
    Command("drift", "say how far traffic has moved from what a bundle knows", _add_drift, _drift),
    Command("map", "draw where traffic falls in capability space", _add_map, _map),
    Command("adapt", "make a bundle that knows your own benign traffic", _add_adapt, _adapt),
    Command("serve", "answer over HTTP", _add_serve, _serve),
    Command("labels", "make what analysts marked into corpora to train with", _add_labels, _labels),
    Command("import", "write logs of any format as plain rows", _add_import, _import),
    Command("formats", "list the log formats that are read", _add_formats, _formats),
    Command("bundle", "show or verify a bundle", _add_bundle_action, _bundle),
)

if __name__ == "__main__":
    sys.exit(main())
