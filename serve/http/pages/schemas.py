"""Schemas of what the analyst's page sends; none of it is part of the interface that OpenAPI describes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StrictInt, StrictStr

from serve.analyst.review.cases import MAX_NOTE_CHARS, State
from serve.http.schemas import Id


class DecisionIn(BaseModel):
    """What an analyst decides of a session, or of all of an account that are in the queue; `after` is the number of the
    account's last decision that was shown, 0 for none."""

    account_id: Id
    session_id: Id | None = None
    state: State
    note: Annotated[StrictStr, Field(max_length=MAX_NOTE_CHARS)] = ""
    after: Annotated[StrictInt, Field(ge=0)] | None = None


class PastedIn(BaseModel):
    """What an analyst pastes: a log of any format, rows, or one prompt a line."""

    text: StrictStr
