"""Alertmanager: a notice as Prometheus' Alertmanager tells its webhooks (version 4), for what understands that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from serve.gateways.endpoint import Endpoint
from serve.gateways.notices import Notice

ALERT = "StillwatchHarvesting"
_NEVER = "0001-01-01T00:00:00Z"
"""The end of an alert that is firing."""


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """A receiver that takes what Alertmanager sends; a token may be part of its path."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """As logs and metrics say it."""
        return "alerts"

    def send(self, notice: Notice) -> int:
        """The status that an alert is answered with; one that is sent again has the same fingerprint.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """
        return self.endpoint.post(alerts(notice), {})


def alerts(notice: Notice) -> bytes:
    """The JSON of a group of one alert, firing since the verdict."""
    labels = {"alertname": ALERT, "severity": "warning", "account_id": notice.account_id}
    annotations = {
        "summary": "A session looks like harvesting",
        "description": f"score {notice.score:.3f}, p-value {notice.p_value:.3g}, {notice.n_exchanges} exchanges, "
        f"bundle {notice.bundle}",
    }
    alert = {
        "status": "firing", "labels": labels | {"session_id": notice.session_id}, "annotations": annotations,
        "startsAt": datetime.fromtimestamp(notice.judged_at, UTC).isoformat(timespec="milliseconds"), "endsAt": _NEVER,
        "generatorURL": "", "fingerprint": notice.notice_id[:16],
    }  # fmt: skip
    return json.dumps({
        "version": "4", "groupKey": f'{{}}:{{alertname="{ALERT}"}}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "stillwatch", "groupLabels": {"alertname": ALERT}, "commonLabels": alert["labels"],
        "commonAnnotations": annotations, "externalURL": "", "alerts": [alert],
    }).encode()  # fmt: skip
