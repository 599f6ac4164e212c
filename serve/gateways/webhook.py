"""Webhook: a notice as a JSON event, signed as Standard Webhooks (standardwebhooks.com) says."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serve.gateways.endpoint import Endpoint
from serve.gateways.notices import Notice
from serve.gateways.secret_files import secret_text

_PREFIX = "whsec_"
_MIN_BYTES, _MAX_BYTES = 24, 64


def secret_in(path: Path) -> bytes:
    """The secret in a file: `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: when the file can't be read, or holds something else; the sentence doesn't quote it.
    """
    expected = f"{_PREFIX} and base64 of {_MIN_BYTES} to {_MAX_BYTES} bytes"
    text = secret_text(path, expected)
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or not _MIN_BYTES <= len(secret) <= _MAX_BYTES:
        raise ValueError(f"expected a file of {expected}")
    return secret


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver that checks signatures."""

    endpoint: Endpoint
    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """As logs and metrics say it."""
        return "webhook"

    def send(self, notice: Notice) -> int:
        """The status that a notice is answered with; each try is signed with its own time.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """
        body, sent_at = event(notice), int(time.time())
        signed = f"{notice.notice_id}.{sent_at}.".encode() + body
        digest = base64.b64encode(hmac.digest(self.secret, signed, hashlib.sha256)).decode()
        headers = {
            "webhook-id": notice.notice_id, "webhook-timestamp": str(sent_at), "webhook-signature": f"v1,{digest}",
        }  # fmt: skip
        return self.endpoint.post(body, headers)


def event(notice: Notice) -> bytes:
    """The JSON that is sent: a type, the time of the verdict, and the notice."""
    data = dataclasses.asdict(notice)
    judged_at = datetime.fromtimestamp(data.pop("judged_at"), UTC).isoformat(timespec="milliseconds")
    return json.dumps({"type": "session.harvesting", "timestamp": judged_at, "data": data}).encode()
