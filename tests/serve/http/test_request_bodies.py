"""Bodies are bounded before anything is built of them: values, faults, inflated bytes, and memory of all together."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.http import request_bodies
from serve.http.problems import ProblemError
from serve.http.request_bodies import (
    MAX_FAULTS,
    Body,
    BodyLimits,
    BodyMemory,
    count_values,
    parse,
    read_body,
    refuse_too_many,
)
from serve.http.schemas import MAX_EXCHANGES, ScoreIn

JSON = {"content-type": "application/json"}


def counted_one_by_one(body: bytes) -> int:
    n, is_inside, is_escaped = 0, False, False
    for sign in body.decode():
        if sign == '"' and not is_escaped:
            is_inside = not is_inside
        n += sign in ",[{" and not is_inside
        is_escaped = sign == "\\" and not is_escaped
    return n


@given(st.text(alphabet='\\",[{a:', max_size=60), st.integers(1, 9))
def test_values_are_counted_as_one_byte_after_another(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_bodies, "_SLICE", size)
        assert count_values(text.encode()) == counted_one_by_one(text.encode())


@given(st.recursive(st.none() | st.text(max_size=9) | st.integers(), lambda inner: st.lists(inner, max_size=4)))
def test_no_value_is_missed(value: object) -> None:
    def n_values(value: object) -> int:
        return 1 + sum(map(n_values, value)) if isinstance(value, list) else 1

    assert count_values(json.dumps(value).encode()) >= n_values(value) - 1


def test_many_values_are_refused_and_much_text_is_not() -> None:
    refuse_too_many(json.dumps({"prompt": 'a, "b", [c], \\{' * 100_000}).encode(), 10)
    with pytest.raises(ProblemError, match="413") as fault:
        refuse_too_many(b'{"x": [' + b"1," * 20 + b"1]}", 20)
    assert fault.value.status == 413


def test_a_body_of_faults_costs_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: 4 million items of two bytes, each a fault that a validator would write out."""
    row = '{"session_id":"s","account_id":"a","exchanges":[' + ",".join(["1"] * 500) + "]}"
    body = ('{"sessions":[' + ",".join([row] * 256) + "]}").encode()
    sizes = []
    errors = ValidationError.errors

    def noted(fault: ValidationError, **given: bool) -> list[object]:
        sizes.append(fault.error_count())
        return list(errors(fault, **given))

    with pytest.raises(ProblemError) as found:
        parse(body * 1, ScoreIn)
    assert (found.value.status, len(found.value.faults)) == (422, 1)
    with pytest.raises(ValidationError) as raised:
        ScoreIn.model_validate_json(body)
    assert raised.value.error_count() <= MAX_FAULTS
    with pytest.raises(ProblemError) as found:
        parse(body, ScoreIn, n_values=100_000)
    assert found.value.status == 413


def test_the_exchanges_of_a_body_are_bounded_together() -> None:
    session = {"session_id": "s", "account_id": "a", "exchanges": [{"prompt": "x"}] * 101}
    body = json.dumps({"sessions": [session] * 200}).encode()
    with pytest.raises(ProblemError) as fault:
        parse(body, ScoreIn)
    assert f"expected at most {MAX_EXCHANGES:,}" in fault.value.faults[0].detail


def body_of(data: bytes, memory: BodyMemory, limits: BodyLimits) -> Body:
    body = Body(limits, memory, is_gzip=True)
    body.add(data)
    return body


def test_inflated_bytes_count_as_held_until_the_body_is_closed() -> None:
    limits, memory = BodyLimits(n_bytes=1 << 20), BodyMemory(3 << 20)
    data = gzip.compress(b" " * (1 << 20))
    first, second, third = (body_of(data, memory, limits) for _ in range(3))
    assert len(first.plain()) == len(second.plain()) == 1 << 20
    with pytest.raises(ProblemError) as fault:
        third.plain()
    assert (fault.value.status, fault.value.retry_after) == (503, 1)
    first.close()
    third.close()
    assert memory.n_held == len(data) + (1 << 20)
    second.close()
    second.close()
    assert memory.n_held == 0


def test_a_bomb_is_inflated_no_further_than_the_limit() -> None:
    memory = BodyMemory(1 << 30)
    body = body_of(gzip.compress(b" " * (64 << 20)), memory, BodyLimits(n_bytes=1 << 20))
    with pytest.raises(ProblemError) as fault:
        body.plain()
    assert fault.value.status == 413
    assert memory.n_held <= 2 << 20


@pytest.mark.parametrize("cut", [1, 9, 15, 100])
def test_a_body_that_is_cut_short_is_a_422(cut: int) -> None:
    with pytest.raises(ProblemError) as fault:
        body_of(gzip.compress(json.dumps(list(range(999))).encode())[:-cut], BodyMemory(1 << 20), BodyLimits()).plain()
    assert fault.value.status == 422


def test_bodies_that_stall_hold_no_more_than_the_budget_and_let_go() -> None:
    """The attack: 60 uploads that stall one byte before their end."""
    limits, memory = BodyLimits(seconds=0.2), BodyMemory(5 * 1000)

    async def stalled() -> AsyncIterator[bytes]:
        yield b" " * 1000
        await asyncio.sleep(60)

    async def status() -> int:
        try:
            await read_body(stalled(), JSON, limits, memory)
        except ProblemError as problem:
            return problem.status
        return 200

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(status() for _ in range(60)))

    assert sorted(asyncio.run(all_of_them())) == [408] * 5 + [503] * 55
    assert memory.n_held == 0


@pytest.mark.parametrize("more", [b"x", gzip.compress(b"{}", mtime=0), bytes(9)])
def test_what_follows_gzip_data_is_not_ignored(more: bytes) -> None:
    with pytest.raises(ProblemError) as fault:
        body_of(gzip.compress(b"{}") + more, BodyMemory(1 << 20), BodyLimits()).plain()
    assert fault.value.status == 422


@pytest.mark.parametrize(
    "body",
    [
        b'{"sessions": [], "sessions": []}',
        b'{"sessions": [{"exchanges": [{"prompt": "canary", "pr\\u006fmpt": "b"}]}]}',
    ],
)
def test_a_key_that_comes_twice_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemError, match="a key comes twice") as caught:
        parse(body, ScoreIn)
    assert caught.value.status == 422
    assert "canary" not in str(caught.value)


def test_ids_are_trimmed_and_composed_as_those_of_files() -> None:
    session = {"session_id": " s ", "account_id": "e\u0301\t", "exchanges": [{"prompt": "hello"}]}
    (found,) = parse(json.dumps({"sessions": [session]}).encode(), ScoreIn).sessions
    assert (found.session_id, found.account_id) == ("s", "\u00e9")
    with pytest.raises(ProblemError):
        parse(json.dumps({"sessions": [session | {"account_id": "  "}]}).encode(), ScoreIn)
