"""Who gets in: names of this machine, pages of this site, known keys, and not too often."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve.http.admission import Admission
from serve.http.keys import ApiKeys, RateLimits, new_key
from serve.http.problems import ProblemError


def status(admission: Admission, path: str = "/v1/bundle", client: str = "127.0.0.1", **headers: str) -> int:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    path_only, _, query = path.partition("?")
    scope = {"headers": raw, "path": path_only, "raw_path": path_only.encode(), "query_string": query.encode()}
    try:
        asyncio.run(admission.check(scope | {"client": (client, 9)}))
    except ProblemError as problem:
        return problem.status
    return 200


def admission(**given: Any) -> Admission:
    keys = given.pop("keys", ApiKeys())
    return Admission(keys, RateLimits(100.0, **given), 1000, None if keys else ("box.lan",))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("LOCALHOST:8080", 200), ("localhost.", 200), ("127.0.0.1:8080", 200), ("[::1]:8080", 200),
        ("::1", 421), ("box.lan:80", 200), ("evil.example", 421), ("localhost.evil.example", 421), ("", 421),
        ("127.0.0.1.evil.example", 421), ("10.0.0.1", 421), ("[::1]:8080.evil", 421), ("evil.example:127.0.0.1", 421),
    ],
)  # fmt: skip
def test_without_keys_only_names_of_this_machine_are_served(host: str, expected: int) -> None:
    assert status(admission(), host=host) == expected
    assert status(admission(), "/healthz", host=host) == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8080", 200), ("http://LOCALHOST:8080", 200), ("http://localhost:3000", 403), ("null", 403),
        ("http://evil.example", 403), ("https://localhost:8080.evil.example", 403), ("localhost:8080", 403), ("", 403),
    ],
)  # fmt: skip
def test_without_keys_pages_of_other_sites_are_refused(origin: str, expected: int) -> None:
    assert status(admission(), host="localhost:8080", origin=origin) == expected


def test_guesses_of_keys_are_slowed_by_address_and_together_and_known_keys_go_on() -> None:
    key, digest = new_key()
    door = admission(keys=ApiKeys.parse(f"a:{digest}"), unknown=3, all_unknown=10)
    guesses = [status(door, authorization=f"Bearer {n}") for n in range(6)]
    assert guesses == [401, 401, 401, 429, 429, 429]
    assert status(door, authorization=f"Bearer {key}") == 200
    assert status(door, client="10.0.0.2") == 401
    networks = [status(door, client=f"2001:db8::{n:x}") for n in range(5)]
    assert networks == [401, 401, 401, 429, 429]
    assert status(door, client="10.0.0.3") == 429  # everyone together
    assert status(door, "/healthz", client="10.0.0.3") == 200


def test_paths_that_are_not_utf_8_are_nobodys_ids() -> None:
    for path in ("/v1/sessions/%ff", "/v1/sessions/s?account_id=%ED%A0%80"):
        assert status(admission(), path, host="localhost") == 400
    assert status(admission(), "/v1/sessions/%F0%9F%98%80%2F%00?account_id=%25", host="localhost") == 200


@pytest.mark.parametrize("length", ["1001", "-5", "9" * 19, "²", "1_0", ""])
def test_lengths_are_numbers_within_the_limit(length: str) -> None:
    assert status(admission(), host="localhost", content_length=length) == 413


def test_a_rate_holds_over_a_window_and_other_keys_have_their_own() -> None:
    async def waits(limits: RateLimits, key: str, n: int) -> list[int]:
        return [await limits.asked(key) for _ in range(n)]

    limits = RateLimits(1.5)
    assert asyncio.run(waits(limits, "a", 5)) == [0, 0, 0, 1, 1]
    assert asyncio.run(waits(limits, "b", 1)) == [0]
    assert asyncio.run(waits(RateLimits(0.1), "a", 2)) == [0, 10]
    for per_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected more than 0"):
            RateLimits(per_s)


def test_without_an_answer_from_redis_each_replica_counts_by_itself(tmp_path: Path) -> None:
    limits = RateLimits(0.5, redis_url=f"unix://{tmp_path}/nothing.sock")

    async def waits() -> list[int]:
        return [await limits.asked("a") for _ in range(2)]

    assert asyncio.run(waits()) == [0, 2]
