"""Azure API Management: logs of a gateway before language models, a request spread over rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.io.json_values import parse_json
from serve.io.log_files.files import Log
from serve.io.logs.bodies import CUT, Refusal, outcome, refused, talk_in
from serve.io.logs.groups import Piece, grouped, usable_rows
from serve.io.logs.requests import NO_CONTENT, NOT_CHAT, Format, Outcome, Rejected, Skipped, Talk, share_of
from serve.io.logs.values import first_id, first_time, objects, text_id

_FIELDS = (
    "apimsubscriptionid", "responsecode", "isrequestsuccess", "url", "sequencenumber", "requestmessages",
    "operationname", "timegenerated", "time",
)  # fmt: skip


def _matches(row: dict[str, Any]) -> bool:
    fields = next((fields for table in objects(row.get("tables")) for fields in _of_table(table)), _fields(row))
    is_llm = "requestmessages" in fields or "responsemessages" in fields or "sequencenumber" in fields
    is_gateway = "apimsubscriptionid" in fields or "GatewayL" in str(row.get("Type", row.get("category", "")))
    return "correlationid" in fields and (is_llm or is_gateway)


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Fields by name in small letters, also those that diagnostic settings put under `properties`."""
    inner = row.get("properties")
    return {
        name.lower().removesuffix(" [utc]"): value
        for name, value in {**row, **(inner if isinstance(inner, dict) else {})}.items()
    }


def _requests(log: Log) -> Iterator[Outcome]:
    faults: list[Outcome] = []
    for _, pieces in grouped(_pieces(log, faults)):
        yield _parse(pieces)
    yield from faults


def _pieces(log: Log, faults: list[Outcome]) -> Iterator[Piece]:
    for line, fields in _rows(log, faults):
        key = text_id(fields.get("correlationid"))
        if key is None:
            faults.append(Rejected(line, "CorrelationId is missing"))
            continue
        kept = {name: fields[name] for name in _FIELDS if fields.get(name) not in (None, "")}
        yield key, line, {**kept, "at": first_time(fields, "timegenerated", "time")}


def _rows(log: Log, faults: list[Outcome]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and fields of each row; of the answer to a query those of its tables."""
    for line, row in usable_rows(log, faults):
        tables = objects(row.get("tables"))
        yield from ((line, fields) for table in tables for fields in _of_table(table))
        if not tables:
            yield line, _fields(row)


def _of_table(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = [str(column.get("name")) for column in objects(table.get("columns"))]
    rows = table.get("rows")
    for values in rows if isinstance(rows, list) else []:
        yield _fields(dict(zip(names, values, strict=False))) if isinstance(values, list) else {}


def _parse(pieces: list[tuple[int, Any]]) -> Outcome:
    rows = [value for _, value in pieces]
    if not any("sequencenumber" in row or "requestmessages" in row for row in rows):
        return Skipped(pieces[0][0], NOT_CHAT)
    times = [row["at"] for row in rows if row["at"] == row["at"]]
    account_id = first_id(*(row.get("apimsubscriptionid") for row in rows))
    return outcome(pieces[0][0], _talk(rows), account_id=account_id, at=min(times, default=float("nan")))


def _talk(rows: list[dict[str, Any]]) -> Talk | Refusal:
    endpoints = tuple(row.get(name) for row in rows for name in ("operationname", "url"))
    statuses = tuple(row.get("responsecode") for row in rows)
    failed = any(row.get("isrequestsuccess") in (False, "false", "False") for row in rows)
    return refused(endpoints, statuses, "failed" if failed else None) or _joined(rows)


def _joined(rows: list[dict[str, Any]]) -> Talk | Refusal:
    """The messages, whose pieces of text are joined by number before they are parsed."""
    rows = sorted((row for row in rows if "requestmessages" in row), key=_number)
    values = [row["requestmessages"] for row in {_number(row): row for row in rows}.values()]
    if not values:
        return Refusal(NO_CONTENT)
    if all(isinstance(value, str) for value in values):
        talk = talk_in("".join(values))
        return talk_in(_whole(values)) if talk is CUT and len(values) > 1 else talk
    lists = [value for value in values if isinstance(value, list)]
    return talk_in([message for messages in lists for message in messages]) if len(lists) == len(values) else CUT


def _whole(values: list[str]) -> object:
    """The messages where each piece is a list of its own; else a text that is none."""
    try:
        lists = [parse_json(value) for value in values]
    except ValueError:
        return "cut"
    is_whole = all(isinstance(messages, list) for messages in lists)
    return [message for messages in lists for message in messages] if is_whole else "cut"


def _number(row: dict[str, Any]) -> int:
    number = text_id(row.get("sequencenumber")) or "0"
    return int(number) if number.isdecimal() and len(number) < 10 else 0


FORMAT = Format("azure_apim", "Azure API Management logs", share_of(_matches), _requests)
