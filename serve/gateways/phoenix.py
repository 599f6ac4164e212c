"""Phoenix: a notice as an annotation of a session, by the REST interface of Arize Phoenix 12 and later."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from serve.gateways.endpoint import Endpoint
from serve.gateways.notices import Notice

_PATH = "/v1/session_annotations"


def annotations_of(url: str) -> Endpoint:
    """Where annotations are posted to, of a Phoenix with this URL.

    Raises:
        ValueError: when it can't be posted to; the sentence doesn't quote it.
    """
    return Endpoint.parse(url.rstrip("/") + _PATH)


@dataclass(frozen=True, slots=True)
class Phoenix:
    """A Phoenix whose sessions have the ids that sessions have here; `key` is None where it asks for none."""

    endpoint: Endpoint
    key: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """As logs and metrics say it."""
        return "phoenix"

    def send(self, notice: Notice) -> int:
        """The status that an annotation is answered with; one that is sent again takes the place of the first.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """
        headers = {} if self.key is None else {"authorization": f"Bearer {self.key}"}
        return self.endpoint.post(annotation(notice), headers)


def annotation(notice: Notice) -> bytes:
    """The JSON of a notice: label, score (0-1, high means harvesting) and numbers."""
    about = {name: getattr(notice, name) for name in ("n_exchanges", "p_value", "threshold", "bundle")}
    explanation = f"{notice.n_exchanges} exchanges, p-value {notice.p_value:.3g}"
    return json.dumps({"data": [{
        "session_id": notice.session_id, "name": "stillwatch", "annotator_kind": "CODE",
        "result": {"label": "harvesting", "score": notice.score, "explanation": explanation},
        "metadata": about, "identifier": notice.notice_id,
    }]}).encode()  # fmt: skip
