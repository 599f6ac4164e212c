"""OTLP: spans and log records out of OpenTelemetry's JSON, with attributes as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from serve.io.logs.values import objects

_SCALARS = (
    "stringValue", "intValue", "doubleValue", "boolValue", "bytesValue", "string_value", "int_value", "double_value",
    "bool_value",
)  # fmt: skip
_RESOURCE_SPANS = ("resourceSpans", "resource_spans", "batches")
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """A span or log record `raw`, its attributes, those of the resource that sent it, and a body of fields."""

    raw: dict[str, Any]
    attributes: dict[str, Any]
    resource: dict[str, Any]
    body: dict[str, Any] = field(default_factory=dict)

    def get(self, *names: str) -> Any:
        """The first of these attributes that there is, of the entry, else of its resource."""
        for attributes in (self.attributes, self.resource):
            for name in names:
                if attributes.get(name) not in (None, ""):
                    return attributes[name]
        return None


def spans(value: object) -> Iterator[Entry]:
    """Every span of an export of traces."""
    yield from _entries(value, _RESOURCE_SPANS, ("scopeSpans", "scope_spans"), "spans")
    if isinstance(value, dict) and isinstance(value.get("context"), dict):  # as SDKs print a span
        resource = value.get("resource")
        shared = attributes_of(resource.get("attributes")) if isinstance(resource, dict) else {}
        ids = {"traceId": value["context"].get("trace_id"), "spanId": value["context"].get("span_id")}
        yield Entry(value | ids, attributes_of(value.get("attributes")), shared)


def log_records(value: object) -> Iterator[Entry]:
    """Every record of an export of logs."""
    kinds = ("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs")
    yield from _entries(value, *kinds, "logRecords")
    yield from _entries(value, *kinds, "log_records")


def _entries(value: object, resources: tuple[str, ...], scopes: tuple[str, ...], name: str) -> Iterator[Entry]:
    for resource in _lists(value, resources):
        about = resource.get("resource")
        shared = attributes_of(about.get("attributes")) if isinstance(about, dict) else {}
        for scope in _lists(resource, (*scopes, "instrumentationLibrarySpans")):
            for raw in objects(scope.get(name)):
                body = plain(raw.get("body"))
                yield Entry(raw, attributes_of(raw.get("attributes")), shared, body if isinstance(body, dict) else {})


def _lists(value: object, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for name in names:
            yield from objects(value.get(name))


def attributes_of(value: object) -> dict[str, Any]:
    """Attributes by name, from a list of keys and values or a plain object."""
    if isinstance(value, dict):
        return value
    return {pair["key"]: plain(pair.get("value")) for pair in objects(value) if isinstance(pair.get("key"), str)}


def plain(value: object, depth: int = 0) -> Any:
    """The value inside a typed one (`stringValue`, `arrayValue`, `kvlistValue`); other values as they are."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return value
    for name in _SCALARS:
        if name in value:
            return value[name]
    if isinstance(tree := value.get("arrayValue", value.get("array_value")), dict):
        return [plain(item, depth + 1) for item in objects(tree.get("values"))]
    if isinstance(tree := value.get("kvlistValue", value.get("kvlist_value")), dict):
        pairs = objects(tree.get("values"))
        return {str(pair.get("key")): plain(pair.get("value"), depth + 1) for pair in pairs}
    return value
