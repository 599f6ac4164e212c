"""The `stillwatch` command.

Exit codes: 0 done; 1 `drift` found drift; 2 the request, an input, an output or the bundle is not usable, and nothing
was written; 3 done, but more than 5 % of the rows were rejected; 4 the job stopped, and `--resume` continues it;
130 Ctrl-C or 143 SIGTERM, likewise.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from serve.bundle.signature import requiring
from serve.commands.adapt import ADAPT
from serve.commands.bundles import BUNDLE
from serve.commands.campaigns import CAMPAIGNS
from serve.commands.command import DONE, EXIT_CODES, INTERRUPTED, STOPPED, TERMINATED, UNUSABLE
from serve.commands.drift import DRIFT
from serve.commands.explain import EXPLAIN
from serve.commands.inputs import import_folder
from serve.commands.labels import LABELS, QUEUE
from serve.commands.logs import FORMATS, IMPORT
from serve.commands.pages import MAP, REPORT
from serve.commands.score import SCORE
from serve.commands.server import SERVE

COMMANDS = SCORE, EXPLAIN, CAMPAIGNS, REPORT, DRIFT, MAP, ADAPT, SERVE, QUEUE, LABELS, IMPORT, FORMATS, BUNDLE

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUOTING = ("pyarrow", "pydantic_core")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; faults are one line on stderr, never a traceback, never prompt text."""
    options = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with requiring(getattr(options, "require_signed", None)):
            return int(options.run(options))
    except KeyboardInterrupt:
        return _fail(f"interrupted{_tip(options)}", INTERRUPTED)
    except _Terminated:
        return _fail(f"terminated{_tip(options)}", TERMINATED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit doesn't write to it again
        return DONE
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as fault:
        return _failed(fault, options)
    finally:
        signal.signal(signal.SIGTERM, previous)


def command() -> int:
    """`main` as a process of its own, where pyarrow needn't look for pandas: importing it takes longer than judging.

    If it crashes, neither it nor what it starts leaves a core, which would hold prompts.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    sys.meta_path.insert(0, _NoPandas())
    return main()


class _NoPandas:
    """Refuses to find pandas, as if it weren't installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not used here", name=name)


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _failed(fault: Exception, options: argparse.Namespace) -> int:
    """Say what went wrong and how to go on; the exit code."""
    from serve.batch.job import JobStoppedError

    if isinstance(fault, JobStoppedError):
        return _fail(f"{_said(fault)}{_kept(options)}", STOPPED)
    if isinstance(fault, OSError) and fault.errno in _FULL:
        place = fault.filename or getattr(options, "out", None) or "standard output"
        return _fail(f"{place}: {fault.strerror}{_tip(options)}", STOPPED)
    return _fail(_said(fault), UNUSABLE)


def _said(fault: BaseException) -> str:
    """What a fault says; only its kind where it is of a library that quotes what it read."""
    name = type(fault).__name__
    if isinstance(fault, OSError) and fault.filename and fault.strerror:
        return f"{fault.filename}: {fault.strerror}"
    is_quoting = type(fault).__module__.partition(".")[0] in _QUOTING
    return f"{name}: something can't be read or judged" if is_quoting else str(fault)


def _tip(options: argparse.Namespace) -> str:
    """How to go on, where a command left something to go on from."""
    if getattr(options, "follow", False):
        return "; run the same command again to go on"
    if not hasattr(options, "resume") or not options.out.with_name(f"_{options.out.name}.work").is_dir():
        return _kept(options)
    return _kept(options) or "; use --resume to continue"


def _kept(options: argparse.Namespace) -> str:
    """That imported logs were left, and what to do with them."""
    if not hasattr(options, "resume") or not (folder := import_folder(options.out)).is_dir():
        return ""
    return f"; kept {folder}, which holds prompts: go on with --resume, or delete it"


def _fail(text: str, code: int) -> int:
    print("stillwatch:", " ".join(text.split()) or "out of memory", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stillwatch",
        description="Finds API sessions that harvest a model's capabilities.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.help, description=command.help, epilog=EXIT_CODES)
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class _Version(argparse.Action):
    """Looks the version up when it is asked for, which takes as long as the rest of the parser."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """See `argparse.Action`."""
        print(f"stillwatch {_version()}")
        parser.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stillwatch")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(command())
