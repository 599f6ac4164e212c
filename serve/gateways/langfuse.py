"""Langfuse: a notice as a score of a session, by Langfuse's public API."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from serve.gateways.endpoint import Endpoint
from serve.gateways.notices import Notice
from serve.gateways.secret_files import secret_text

_PATH = "/api/public/scores"
_KEYS = "PUBLIC:SECRET"


def scores_of(url: str) -> Endpoint:
    """Where scores are posted to, of a Langfuse with this URL.

    Raises:
        ValueError: when it can't be posted to; the sentence doesn't quote it.
    """
    return Endpoint.parse(url.rstrip("/") + _PATH)


def keys_in(path: Path) -> str:
    """The keys of a project in a file: `PUBLIC:SECRET`.

    Raises:
        ValueError: when the file can't be read, or holds something else; the sentence doesn't quote it.
    """
    text = secret_text(path, _KEYS)
    public, _, secret = text.partition(":")
    if not public or not secret:
        raise ValueError(f"expected a file of {_KEYS}")
    return text


@dataclass(frozen=True, slots=True)
class Langfuse:
    """A project of Langfuse; its sessions have the ids that sessions have here."""

    endpoint: Endpoint
    keys: str = field(repr=False)

    @property
    def name(self) -> str:
        """As logs and metrics say it."""
        return "langfuse"

    def send(self, notice: Notice) -> int:
        """The status that a score is answered with; one that is sent again takes the place of the first.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """
        authorization = "Basic " + base64.b64encode(self.keys.encode()).decode()
        return self.endpoint.post(score(notice), {"authorization": authorization})


def score(notice: Notice) -> bytes:
    """The JSON of a notice: the score, 0-1, high means harvesting."""
    p_value, bundle = f"{notice.p_value:.3g}", notice.bundle
    return json.dumps({
        "id": notice.notice_id, "sessionId": notice.session_id, "name": "stillwatch", "value": notice.score,
        "dataType": "NUMERIC",
        "comment": f"harvesting: {notice.n_exchanges} exchanges, p-value {p_value}, bundle {bundle}",
    }).encode()  # fmt: skip
