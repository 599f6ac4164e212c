"""Routes of gateways and tracers: guardrails of LiteLLM and Portkey, LiteLLM's log callback, OpenTelemetry's traces."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter

from serve.gateways.litellm import guardrail_request, logged, rows_of
from serve.gateways.otlp_protobuf import export_of, partial_success, status
from serve.gateways.portkey import BEFORE, webhook_request
from serve.gateways.settings import GatewaySettings
from serve.gateways.traces import export_in_json, traced
from serve.gateways.traffic import Extend, Taken, Traffic
from serve.http.openapi import described
from serve.http.plug_ins.fail_open import GUARDRAIL_PATH, PASS, PORTKEY_PATH, UNJUDGED, FailOpen
from serve.http.plug_ins.guardrail import Answer, Guardrail
from serve.http.plug_ins.schemas import (
    GuardrailIn,
    GuardrailOut,
    LoggedIn,
    PortkeyIn,
    PortkeyOut,
    TakenOut,
    TracesIn,
    TracesOut,
)
from serve.http.problems import ProblemError
from serve.http.request_bodies import Body, BodyLimits, BodyMemory, parse, read_body, refuse_too_many
from serve.io.logs.requests import NO_CONTENT
from serve.live.sealing import Seal

_JSON, _LINES, _PROTOBUF = "application/json", "application/x-ndjson", "application/x-protobuf"


@dataclass(frozen=True)
class PlugIns:
    """What the routes work with: live sessions, where work waits, and limits."""

    settings: GatewaySettings
    extend: Extend
    seal: Seal
    run: Callable[[Callable[[], bytes], Callable[[], None]], Awaitable[bytes]]
    limits: BodyLimits
    memory: BodyMemory
    registry: CollectorRegistry

    async def body(self, request: Request, *content_types: str) -> Body:
        """The body of a request of one of these types.

        Raises:
            ProblemError: 408, 413, 415 or 503.
        """
        headers = {name.lower(): value for name, value in request.headers.items()}
        if _content_type(request) not in content_types:
            raise ProblemError(415, f"expected content-type: {' or '.join(content_types)}")
        return await read_body(request.stream(), headers | {"content-type": _JSON}, self.limits, self.memory)


def add_plug_ins(app: FastAPI, plug_ins: PlugIns) -> None:
    """Add the routes, and what lets gateways' requests pass where the service can't judge them."""
    traffic = Traffic(plug_ins.extend)
    _add_guardrails(app, plug_ins, traffic)
    _add_logs(app, plug_ins, traffic)
    _add_traces(app, plug_ins, traffic)
    app.add_middleware(FailOpen)


def _add_guardrails(app: FastAPI, plug_ins: PlugIns, traffic: Traffic) -> None:
    guardrail = Guardrail(traffic, plug_ins.seal, plug_ins.settings)
    answers = Counter(
        "guardrail", "Answers to guardrails", ("action",), namespace="stillwatch", registry=plug_ins.registry
    )

    async def judged(request: Request, path: str, ask: Callable[[bytearray], tuple[Answer, bytes]]) -> Response:
        """What a gateway is answered, as `ask` says; in time, whatever fails."""
        body = await plug_ins.body(request, _JSON)
        answer: Answer | None = None

        def work() -> bytes:
            nonlocal answer
            answer, text = ask(body.plain())
            return text

        task = asyncio.ensure_future(plug_ins.run(work, body.close))
        done, _ = await asyncio.wait({task}, timeout=plug_ins.settings.answer_s)
        if not done:
            task.add_done_callback(_forget)  # it goes on: the request is counted, if late
            answers.labels("late").inc()
            return Response(PASS[path], media_type=_JSON, headers={UNJUDGED: "late"})
        found = task.result()
        if answer is not None:
            answers.labels(answer.action).inc()
            request.scope.setdefault("state", {})["account"] = answer.account
        return Response(found, media_type=_JSON)

    @app.post(GUARDRAIL_PATH, operation_id="guardrail", **described(GuardrailOut, GuardrailIn))
    async def guard(request: Request) -> Response:
        """Add a request of LiteLLM to the account's live session; whether it is blocked is a setting, by default not.

        Whatever fails here lets the request pass, as does a verdict that takes too long.
        """

        def ask(data: bytearray) -> tuple[Answer, bytes]:
            given = parse(data, GuardrailIn)
            is_request = given.input_type == "request"
            found = guardrail_request(given.model_dump(), plug_ins.settings.litellm_account) if is_request else None
            answer = guardrail.answer(found) if found else Answer()
            return answer, answer.for_litellm()

        return await judged(request, GUARDRAIL_PATH, ask)

    @app.post(PORTKEY_PATH, operation_id="portkey", **described(PortkeyOut, PortkeyIn))
    async def portkey(request: Request) -> Response:
        """Add a request of Portkey's webhook guardrail to the account's live session; as for LiteLLM."""

        def ask(data: bytearray) -> tuple[Answer, bytes]:
            given = parse(data, PortkeyIn)
            is_request = given.eventType == BEFORE
            found = webhook_request(given.model_dump(), plug_ins.settings.portkey_account) if is_request else None
            answer = guardrail.answer(found) if found else Answer()
            return answer, answer.for_portkey()

        return await judged(request, PORTKEY_PATH, ask)


def _forget(task: asyncio.Future[bytes]) -> None:
    """Look at a fault, so that nobody says that none did; whoever asked has left."""
    if not task.cancelled():
        task.exception()


def _add_logs(app: FastAPI, plug_ins: PlugIns, traffic: Traffic) -> None:
    about = described(TakenOut, LoggedIn)
    about["openapi_extra"]["requestBody"]["content"][_LINES] = {"schema": {"type": "string"}}

    @app.post("/v1/litellm/logs", operation_id="litellm_logs", **about)
    async def logs(request: Request) -> Response:
        """Add what LiteLLM's log callback sends (`StandardLoggingPayload`: one, an array, or one a line) to the
        accounts' live sessions; a request that the guardrail has seen counts once."""
        body = await plug_ins.body(request, _JSON, _LINES)

        def work() -> bytes:
            rows = _parsed(body, 422, rows_of)
            return _taken(traffic.take(logged(rows, plug_ins.settings.litellm_account), time.time()))

        return Response(await plug_ins.run(work, body.close), media_type=_JSON)


def _add_traces(app: FastAPI, plug_ins: PlugIns, traffic: Traffic) -> None:
    about = described(TracesOut, TracesIn)
    about["openapi_extra"]["requestBody"]["content"][_PROTOBUF] = {"schema": {"type": "string", "format": "binary"}}

    @app.post("/v1/traces", operation_id="traces", **about)
    async def traces(request: Request) -> Response:
        """Add the requests of OpenTelemetry's GenAI spans to live sessions (OTLP over HTTP, protobuf or JSON)."""
        kind = _content_type(request)
        is_protobuf = kind == _PROTOBUF
        try:
            body = await plug_ins.body(request, _PROTOBUF, _JSON)

            def work() -> bytes:
                export = _protobuf(body) if is_protobuf else _parsed(body, 400, export_in_json)
                found = traced(export, plug_ins.settings.trace_account)
                return _exported(traffic.take(found, time.time()), is_protobuf=is_protobuf)

            return Response(await plug_ins.run(work, body.close), media_type=kind)
        except ProblemError as problem:
            if not is_protobuf:
                raise
            headers = problem.headers() | {"content-type": kind}
            return Response(status(problem.detail), problem.status, headers)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(body: Body, fault_status: int, read: Callable[[str], Any]) -> Any:
    """The value of a body of JSON.

    Raises:
        ProblemError: 413 when it has too many values, 503, or the status of a fault.
    """
    try:
        data = body.plain()
        refuse_too_many(data)
        return read(data.decode())
    except UnicodeDecodeError:
        raise ProblemError(fault_status, "the body is not UTF-8") from None
    except json.JSONDecodeError:
        raise ProblemError(fault_status, "the body is not JSON") from None
    except ValueError as fault:
        raise ProblemError(fault_status, str(fault)) from None


def _protobuf(body: Body) -> Any:
    try:
        return export_of(body.plain())
    except UnicodeDecodeError:
        raise ProblemError(400, "a text of the body is not UTF-8") from None
    except ValueError as fault:
        raise ProblemError(400, f"the body is no export of traces: {fault}") from None


def _taken(taken: Taken) -> bytes:
    found = {
        "n_requests": taken.n_requests, "n_prompts": taken.n_prompts,
        "n_flagged": sum(own.verdict.label == "harvesting" for own in taken.observations),
        "skipped": dict(taken.skipped), "rejected": dict(taken.rejected),
    }  # fmt: skip
    return json.dumps(found, separators=(",", ":")).encode()


def _exported(taken: Taken, *, is_protobuf: bool) -> bytes:
    """An `ExportTraceServiceResponse`; spans that are no requests count as taken."""
    n_rejected = sum(taken.rejected.values())
    reasons: Iterable[tuple[str, int]] = taken.rejected.items()
    if not n_rejected:
        reasons = [(NO_CONTENT, taken.skipped[NO_CONTENT])] if taken.skipped[NO_CONTENT] else []
    text = "; ".join(f"{count} {reason}" for reason, count in reasons)
    if is_protobuf:
        return partial_success(n_rejected, text)
    partial = ({"rejectedSpans": str(n_rejected)} if n_rejected else {}) | {"errorMessage": text}
    return json.dumps({"partialSuccess": partial} if text else {}).encode()
