"""What the OpenAPI document says of operations whose bodies and headers are read by hand."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from pydantic import BaseModel

from serve.http.problems import CONTENT_TYPE
from serve.http.schemas import MAX_ID_CHARS, ProblemOut

PathId = Annotated[str, Path(json_schema_extra={"minLength": 1, "maxLength": MAX_ID_CHARS})]
QueryId = Annotated[str | None, Query(json_schema_extra={"maxLength": MAX_ID_CHARS})]
"""Ids whose bounds the document says; `check_id` refuses others, as a problem."""

LINKS = {
    "session": {"operationId": "session", "parameters": {"session_id": "$request.path.session_id"}},
    "extend": {"operationId": "extend", "parameters": {"session_id": "$request.path.session_id"}},
    "account": {"operationId": "account", "parameters": {"account_id": "$request.body#/account_id"}},
}
"""What a session that grew can be asked next, and who has it."""

IDEMPOTENCY_KEY = {
    "name": "idempotency-key", "in": "header", "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Names a request: sent again, it counts once. The last 64 of a session are known.",
}  # fmt: skip


ACCOUNT_ID = {
    "name": "x-account-id", "in": "header", "required": False, "schema": {"type": "string", "maxLength": MAX_ID_CHARS},
    "description": "The account that sent the request (the header's name is a setting); else the body names it.",
}  # fmt: skip
SESSION_ID = {
    "name": "x-session-id", "in": "header", "required": False, "schema": {"type": "string", "maxLength": MAX_ID_CHARS},
    "description": "The name of the session in the verdict.",
}  # fmt: skip


AT_THE_DOOR = (400, 401, 403, 413, 421, 429)
"""Statuses of what isn't admitted."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of answers that are problems."""
    return {status: {"model": ProblemOut, "content": {CONTENT_TYPE: {}}} for status in sorted(statuses)}


def described(
    reply: type[BaseModel],
    body: type[BaseModel] | None,
    *more: int,
    links: dict[str, Any] | None = None,
    headers: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """What OpenAPI says of an operation whose body is read by hand."""
    statuses = (*AT_THE_DOOR, 422, 500, 503, *more, *((408, 415) if body else ()))
    found: dict[str, Any] = {"responses": {200: {"model": reply, "links": links or {}}, **problems(*statuses)}}
    if body is not None:
        found["openapi_extra"] = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": _inlined(body)}}}
        }
        if headers:
            found["openapi_extra"]["parameters"] = list(headers)
    return found


def document(app: FastAPI, open_paths: Collection[str] | None = None) -> dict[str, Any]:
    """FastAPI's document, where problems have the content type that they are sent with.

    `open_paths`: where keys are needed, the paths that need none.
    """
    if app.openapi_schema is not None:
        return app.openapi_schema
    found: dict[str, Any] = FastAPI.openapi(app)  # which keeps it
    operations = [(path, operation) for path, own in found["paths"].items() for operation in own.values()]
    for reply in (reply for _, operation in operations for reply in operation["responses"].values()):
        content = reply.get("content", {})
        if CONTENT_TYPE in content:
            content[CONTENT_TYPE] = content.pop("application/json")
    if open_paths is not None:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operation in operations:
            operation["security"] = [] if path in open_paths else [{"key": []}]
    return found


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body without references, so that it needs no entry among the components."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(definitions[value["$ref"].rpartition("/")[2]])
            return {name: resolved(inner) for name, inner in value.items()}
        return [resolved(inner) for inner in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolved(schema)
    return found
