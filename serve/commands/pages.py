"""`stillwatch report` and `stillwatch map`: pages to read and print."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from serve.commands.command import DONE, Command
from serve.commands.inputs import finish, read_inputs, require_rows
from serve.commands.options import add_bundle, add_exchanges, add_reading, add_sample
from serve.sessions.wording import counted


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "verdicts", type=Path, metavar="VERDICTS", help="verdicts file written by score, .parquet or .jsonl"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="page to write, .html")
    parser.add_argument(
        "--exchanges",
        nargs="+",
        default=(),
        metavar="FILE",
        help="the exchanges that were scored, for the map and skills",
    )
    add_reading(parser)
    parser.add_argument("--accounts", type=Path, metavar="FILE", help="accounts file written by score")
    parser.add_argument("--campaigns", type=Path, metavar="FILE", help="campaigns file, .json")
    add_bundle(parser)


def _report(options: argparse.Namespace) -> int:
    from serve.analyst.report import Request, check_request, write_report
    from serve.bundle.files import RELEASED

    request = Request(
        options.verdicts, options.out, tuple(map(Path, options.exchanges)), options.accounts, options.campaigns,
        options.bundle or RELEASED,
    )  # fmt: skip
    check_request(request)
    with ExitStack() as stack:
        if options.exchanges:
            request = replace(request, exchanges=stack.enter_context(read_inputs(options)).paths)
        page = write_report(request)
    size = options.out.stat().st_size
    print(f"{options.out} ({size:,} bytes): {page.n_flagged:,} of {counted(page.n_sessions, 'session')} flagged")
    return DONE


def _add_map(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE", help="page to write, .html")
    add_bundle(parser)
    add_sample(parser)


def _map(options: argparse.Namespace) -> int:
    from serve.analyst.map_page import write_map
    from serve.analyst.mapped_traffic import check_share, map_traffic
    from serve.analyst.rendering import check_page
    from serve.bundle.bundle import Bundle
    from serve.bundle.files import RELEASED
    from serve.jobs.summary import MAX_REJECTED_SHARE

    check_page(options.out)
    check_share(options.sample)
    bundle = Bundle.load(options.bundle or RELEASED)
    with read_inputs(options) as inputs:
        require_rows(inputs, options.exchanges)
        placed = map_traffic(inputs.paths, bundle, share=options.sample)
    write_map(placed, bundle, options.out)
    reached = int((placed.cells > 0).sum())
    print(
        f"placed   {counted(placed.n_prompts, 'prompt')} of {counted(len(placed.sessions), 'session')}, "
        f"{placed.n_none:,} of them nowhere"
    )
    print(f"reached  {reached:,} of {len(placed.cells):,} cells")
    print(f"wrote    {options.out}")
    return finish(inputs, placed.n_rejected <= MAX_REJECTED_SHARE * (placed.n_rejected + placed.n_read))


REPORT = Command("report", "show verdicts as a page to read and print", _add_report, _report)
MAP = Command("map", "show traffic on a map of capabilities", _add_map, _map)
