"""OpenAI batch: the file that is given to the Batch API, one request a line; the file is one session.

Requests of Anthropic's batches, whose body is called `params`, are read, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.io.log_files.files import Log
from serve.io.logs.bodies import outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, Rejected, as_row, share_of
from serve.io.logs.values import first_id, nested


def _matches(row: dict[str, Any]) -> bool:
    return "custom_id" in row and isinstance(row.get("body", row.get("params")), dict | str)


def _requests(log: Log) -> Iterator[Outcome]:
    for record in log.records():
        row = as_row(record)
        if isinstance(row, Rejected):
            yield row
            continue
        body = row.get("body", row.get("params"))
        talk = refused((row.get("url"),), (), row.get("error")) or talk_in(body, (row.get("url"),))
        users = nested(body, "user"), nested(body, "safety_identifier"), nested(body, "metadata", "user_id")
        account_id = first_id(*users)
        yield outcome(record.line, talk, account_id=account_id, session_id=log.name)


FORMAT = Format("openai_batch_input", "OpenAI batch input", share_of(_matches), _requests)
