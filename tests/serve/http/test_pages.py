"""The analyst's page: open but empty without a key; what it asks for is escaped, marked and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.analyst.feedback import Feedback
from serve.analyst.recently_flagged import MAX_FLAGGED, RecentlyFlagged
from serve.http.app import create_app
from serve.http.keys import ApiKeys, new_key
from serve.http.pages.routes import SHELL
from serve.http.service import ServiceSettings
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session, Sessions

HOSTILE = "<script>alert(1)</script>\u202e\"'"


@pytest.fixture
def make(bundle_folder: Path, tmp_path: Path) -> Callable[..., TestClient]:
    def made(**given: Any) -> TestClient:
        return TestClient(create_app(ServiceSettings(bundle=bundle_folder, **given)))

    return made


def body(session: Session, **names: str) -> dict[str, Any]:
    exchanges = [{"prompt": exchange.prompt} for exchange in session.exchanges]
    return {"session_id": session.session_id, "account_id": session.account_id, "exchanges": exchanges} | names


def test_the_page_is_open_and_nothing_else_is(make: Callable[..., TestClient]) -> None:
    key, digest = new_key()
    with make(keys=ApiKeys.parse(f"ann:{digest}")) as client:
        for path in SHELL:
            assert client.get(path).status_code == 200
        for path in ("/page/flagged", "/page/campaigns", "/page/marks", "/page/sessions/s", "/page/accounts/a"):
            assert client.get(path).status_code == 401
        for path in ("/page/cards", "/page/marks"):
            assert client.post(path, json={}).status_code == 401
        assert client.get("/page/flagged", headers={"authorization": f"Bearer {key}"}).status_code == 200


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
            card = client.post("/page/cards", json={"sessions": [body(session)]}).text
            assert f'<data value="{verdict.score}">' in card
            assert f'<data value="{verdict.p_value}">' in card
            assert all(f'<data value="{reason.contribution}">' in card for reason in verdict.reasons)
            assert all(exchange.prompt not in card for exchange in session.exchanges)


def test_names_are_text(make: Callable[..., TestClient], sessions: tuple[Session, ...], tmp_path: Path) -> None:
    with make(feedback=tmp_path / "f.db") as client:
        hostile = body(sessions[3], session_id=HOSTILE, account_id=HOSTILE)
        card = client.post("/page/cards", json={"sessions": [hostile]}).text
        client.post("/v1/sessions/x/exchanges", json={"account_id": HOSTILE, "exchanges": hostile["exchanges"][:3]})
        for text in (card, client.get("/page/flagged").text, client.get("/page/sessions/x").text):
            assert "<script" not in text
        assert client.get("/page/sessions/none").status_code == 404


def test_a_mark_is_kept_and_listed(make: Callable[..., TestClient], tmp_path: Path) -> None:
    mark = {
        "account_id": HOSTILE, "session_id": "s", "verdict": "harvesting", "mark": "wrong", "score": 0.9,
        "p_value": 0.01, "bundle": "b", "note": "a class of students <b>",
    }  # fmt: skip
    with make(feedback=tmp_path / "f.db") as client:
        listed = client.post("/page/marks", json=mark).text
        assert "a class of students &lt;b&gt;" in listed
        assert "<script" not in listed
        assert client.post("/page/marks", json=mark | {"verdict": "undecided"}).status_code == 422
        assert client.post("/page/marks", json=mark | {"note": "x" * 501}).status_code == 422
        assert client.post("/page/marks", content=json.dumps(mark)).status_code == 415  # a form of another site
    kept = Feedback(tmp_path / "f.db").marks()
    assert [(own.account_id, own.label) for own in kept] == [(HOSTILE, "organic")]
    with make() as client:
        assert client.post("/page/marks", json=mark).status_code == 404
        assert "STILLWATCH_FEEDBACK" in client.get("/page/marks").text


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
        assert all(part in text for part in ("c1", "m1", "Coding", "90 % sure"))
    with make() as client:
        assert "STILLWATCH_CAMPAIGNS" in client.get("/page/campaigns").text


def test_the_docket_holds_the_last_flagged(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    recently_flagged = RecentlyFlagged()
    verdicts = tiny_scorer.judge(Sessions.of(sessions))
    recently_flagged.add(verdicts)
    flagged = {verdict.session_id for verdict in verdicts if verdict.is_harvesting}
    assert {case.session_id for case in recently_flagged.cases()} == flagged != set()
    session = next(session for session in sessions if session.session_id in flagged)
    many = [Session(f"n{i}", session.account_id, session.exchanges) for i in range(MAX_FLAGGED + 20)]
    recently_flagged.add(tiny_scorer.judge(Sessions.of(many)))
    assert len(recently_flagged.cases()) == MAX_FLAGGED
    assert recently_flagged.cases()[0].session_id == f"n{MAX_FLAGGED + 19}"
    calm = Session("n219", session.account_id, (Exchange("hello how are you"),))
    if not tiny_scorer.score(calm).is_harvesting:
        recently_flagged.add(tiny_scorer.judge(Sessions.of([calm])))
        assert recently_flagged.cases()[0].session_id == "n218"
