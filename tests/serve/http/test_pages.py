"""The analyst's page: open but empty without a key; what it asks for is escaped, decided and kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape

from serve.http.app import create_app
from serve.http.keys import ApiKeys, new_key
from serve.http.pages.routes import SHELL
from serve.http.service import ServiceSettings
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session

HOSTILE = "<script>alert(1)</script>\u202e\"'"


@pytest.fixture
def make(bundle_folder: Path, tmp_path: Path) -> Callable[..., TestClient]:
    def made(**given: Any) -> TestClient:
        return TestClient(create_app(ServiceSettings(bundle=bundle_folder, **given)))

    return made


def pasted(*sessions: Session, **names: str) -> dict[str, str]:
    rows = [
        {"session_id": own.session_id, "account_id": own.account_id, "prompt": exchange.prompt} | names
        for own in sessions
        for exchange in own.exchanges
    ]
    return {"text": "\n".join(map(json.dumps, rows))}


@pytest.fixture
def flagged(sessions: tuple[Session, ...], tiny_scorer: Scorer) -> Session:
    """A session that the tiny bundle flags."""
    return next(own for own in sessions if tiny_scorer.score(own).is_harvesting)


def test_the_page_is_open_and_nothing_else_is(make: Callable[..., TestClient]) -> None:
    key, digest = new_key()
    with make(keys=ApiKeys.parse(f"ann:{digest}")) as client:
        for path in SHELL:
            assert client.get(path).status_code == 200
        for path in ("queue", "campaigns", "decisions", "decision", "session", "account", "labels.csv"):
            assert client.get(f"/page/{path}").status_code == 401
        for path in ("/page/pasted", "/page/decisions"):
            assert client.post(path, json={}).status_code == 401
        assert client.get("/page/queue", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_its_policy_lets_only_its_own_files_run(make: Callable[..., TestClient]) -> None:
    with make() as client:
        reply = client.get("/")
        policies = [value for name, value in reply.headers.multi_items() if name == "content-security-policy"]
        assert len(policies) == 1
        assert "script-src 'self'" in policies[0]
        assert "unsafe" not in policies[0]
        assert "style=" not in reply.text
        assert "onclick" not in reply.text
        assert reply.headers["x-frame-options"] == "DENY"


def test_a_card_says_what_the_interface_says(
    make: Callable[..., TestClient], sessions: tuple[Session, ...], tiny_scorer: Scorer
) -> None:
    with make() as client:
        for session in sessions[:6]:
            verdict = tiny_scorer.score(session)
            card = client.post("/page/pasted", json=pasted(session)).text
            assert f'<data value="{verdict.score}">' in card
            assert f'<data value="{verdict.p_value}">' in card
            assert all(f'<data value="{reason.contribution}">' in card for reason in verdict.reasons)
            assert all(exchange.prompt not in card for exchange in session.exchanges)


def test_names_and_notes_are_text(make: Callable[..., TestClient], flagged: Session) -> None:
    with make() as client:
        texts = [client.post("/page/pasted", json=pasted(flagged, session_id=HOSTILE, account_id=HOSTILE)).text]
        given = {"account_id": HOSTILE, "state": "confirmed", "note": HOSTILE}
        assert client.post("/page/decisions", json=given).json()["state"] == "confirmed"
        name = quote(HOSTILE)
        for path in (
            "queue?state=all", f"queue?state=all&q={name}", f"account?id={name}", "decisions", "decision?n=1",
            f"session?account={name}&id={name}",
        ):  # fmt: skip
            reply = client.get(f"/page/{path}")
            assert reply.status_code == 200
            texts.append(reply.text)
        for text in texts:
            assert "<script" not in text
            assert "\u202e" not in text.replace(f'"{escape(HOSTILE)}"', "")  # attributes keep the name as it is
            assert "script" in text
        assert client.get("/page/session?id=none").status_code == 404
        assert client.get("/page/account?id=none").status_code == 404


def test_what_is_flagged_waits_and_is_decided_of(
    make: Callable[..., TestClient], flagged: Session, tmp_path: Path
) -> None:
    key, digest = new_key()
    bearer = {"authorization": f"Bearer {key}"}
    exchanges = [{"prompt": exchange.prompt} for exchange in flagged.exchanges]
    with make(review=str(tmp_path / "r.db"), keys=ApiKeys.parse(f"ann:{digest}")) as client:
        body = {"sessions": [{"session_id": "s", "account_id": "=a", "exchanges": exchanges}]}
        assert client.post("/v1/score", json=body, headers=bearer).status_code == 200
        assert "#/account?id=%3Da" in client.get("/page/queue", headers=bearer).text
        given = {"account_id": "=a", "state": "confirmed", "note": "seen <b>", "after": 0}
        reply = client.post("/page/decisions", json=given, headers=bearer)
        assert reply.json() == {"number": 1, "state": "confirmed", "n_sessions": 1}
        assert client.post("/page/decisions", json=given, headers=bearer).status_code == 409
        account = client.get("/page/account?id==a", headers=bearer).text
        assert "seen &lt;b&gt;" in account
        assert "<strong>ann</strong>" in account
        sheet = client.get("/page/decision?n=1", headers=bearer).text
        assert "log-odds of the score" in sheet
        assert not [own for own in flagged.exchanges if own.prompt in sheet]
        lines = client.get("/page/labels.jsonl", headers=bearer).text.splitlines()
        assert [(row["account_id"], row["label"], row["by"]) for row in map(json.loads, lines)] == [
            ("=a", "harvesting", "ann")
        ]
        assert "\n'=a,s,confirmed" in client.get("/page/labels.csv", headers=bearer).text
    with make(review=str(tmp_path / "r.db")) as client:
        assert "confirmed" in client.get("/page/queue?state=confirmed").text
        for wrong in ({"state": "maybe"}, {"note": "x" * 501}, {"account_id": ""}, {"after": -1}):
            assert client.post("/page/decisions", json=given | wrong).status_code == 422
        assert client.post("/page/decisions", json=given | {"account_id": "b"}).status_code == 404
        assert client.post("/page/decisions", content=json.dumps(given)).status_code == 415  # a form of another site
        for path in ("queue?sort=x", "queue?state=x", "queue?page=-1", f"queue?q={'x' * 257}", "account?id="):
            assert client.get(f"/page/{path}").status_code == 422
        for path in ("decision?n=x", "decision?n=9", "labels.exe"):
            assert client.get(f"/page/{path}").status_code == 404


def test_a_live_session_is_decided_of_before_it_is_flagged(
    make: Callable[..., TestClient], sessions: tuple[Session, ...], tiny_scorer: Scorer
) -> None:
    calm = next(own for own in sessions if not tiny_scorer.score(own).is_harvesting)
    with make() as client:
        body = {"account_id": "calm", "exchanges": [{"prompt": own.prompt} for own in calm.exchanges[:200]]}
        assert client.post("/v1/sessions/s/exchanges", json=body).json()["verdict"]["label"] != "harvesting"
        assert "<data" in client.get("/page/session?id=s").text
        assert "0 % flagged" in client.get("/page/account?id=calm").text
        given = {"account_id": "calm", "session_id": "s", "state": "confirmed"}
        assert client.post("/page/decisions", json=given).json()["n_sessions"] == 1
        assert "calm" in client.get("/page/queue?state=confirmed").text


def test_the_usual_place_of_the_queue_may_be_read_only(make: Callable[..., TestClient], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with make(usual_review=tmp_path / "file" / "review.db") as client:
        assert client.get("/page/queue").status_code == 200
    with pytest.raises(OSError, match="file"):
        make(review=str(tmp_path / "file" / "review.db"))
    with make(usual_review=tmp_path / "new" / "review.db") as client:
        assert client.get("/page/queue").status_code == 200
    assert (tmp_path / "new" / "review.db").stat().st_size > 0


def test_verdicts_go_on_without_the_queue(make: Callable[..., TestClient], flagged: Session, tmp_path: Path) -> None:
    with make(review=str(tmp_path / "r.db")) as client:
        with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
            connection.execute("DROP TABLE cases")
        body = {"account_id": "a", "exchanges": [{"prompt": exchange.prompt} for exchange in flagged.exchanges]}
        assert client.post("/v1/sessions/s/exchanges", json=body).status_code == 200
        reply = client.get("/page/queue")
        assert (reply.status_code, reply.json()["detail"]) == (
            503,
            "the review queue does not answer (OperationalError)",
        )


def test_campaigns_are_listed(make: Callable[..., TestClient], tmp_path: Path) -> None:
    campaign = {
        "campaign_id": "c1", "confidence": 0.9, "n_exchanges": 30, "n_harvested": 12, "n_active_days": 3,
        "dilution": 0.6, "first_at": None, "last_at": None, "areas": {"coding": 0.7}, "union_coverage": {},
        "growth": {},
        "contributions": {}, "members": [{"account_id": "m1", "confidence": 1, "share": 1, "n_exchanges": 30}],
    }  # fmt: skip
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"n_accounts": 9, "n_exchanges": 90, "note": None, "campaigns": [campaign]}))
    with make(campaigns=path) as client:
        text = client.get("/page/campaigns").text
        assert all(part in text for part in ("c1", "#/account?id=m1", "Coding", "90 % sure"))
        body = {"account_id": "m1", "exchanges": [{"prompt": "sort a list"}]}
        client.post("/v1/sessions/s/exchanges", json=body)
        assert "#/campaigns" in client.get("/page/account?id=m1").text
        path.write_text("none any more")
        assert client.get("/page/campaigns").status_code == 503
        assert "Not among the 25 surest" in client.get("/page/account?id=m1").text
    with make() as client:
        assert "STILLWATCH_CAMPAIGNS" in client.get("/page/campaigns").text
