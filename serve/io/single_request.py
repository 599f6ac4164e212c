"""Single request: the session that one body sent to a chat model holds, by the rules that logs are imported by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.io.formats.anthropic_messages import packed_ids
from serve.io.logs.bodies import Refusal, talk_in
from serve.io.logs.values import first_id, nested
from serve.sessions.records import Exchange, Session

UNNAMED = "request"
"""The session of a request that names none."""


def session_of(body: Mapping[str, Any], account_id: str | None, session_id: str | None) -> Session:
    """The user prompts of a body, in order, as a session of the account that is given or that the body names.

    Tool results, system messages, files and text of a harness are left out.

    Raises:
        ValueError: when the body names no account where none is given, or holds no prompt.
    """
    packed_account, packed_session = packed_ids(nested(body, "metadata", "user_id"))
    account = first_id(account_id, body.get("user"), body.get("safety_identifier"), packed_account)
    if account is None:
        raise ValueError("no account is named: in a header, or in user, safety_identifier or metadata.user_id")
    talk = talk_in(dict(body))
    if isinstance(talk, Refusal):
        raise ValueError(f"there is no prompt to judge: {talk.reason}")
    if not talk.turns:
        raise ValueError("there is no prompt of a user to judge")
    exchanges = tuple(Exchange(turn.text) for turn in talk.turns)
    return Session(first_id(session_id, packed_session) or UNNAMED, account, exchanges)
