"""OTLP: spans and log records out of OpenTelemetry's JSON, with attributes as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serve.io.logs.values import objects

_SCALARS = ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue")
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """A span or log record `raw`, its attributes, and those of the resource that sent it."""

    raw: dict[str, Any]
    attributes: dict[str, Any]
    resource: dict[str, Any]

    def get(self, *names: str) -> Any:
        """The first of these attributes that there is, of the entry, else of its resource."""
        for attributes in (self.attributes, self.resource):
            for name in names:
                if attributes.get(name) not in (None, ""):
                    return attributes[name]
        return None


def spans(value: object) -> Iterator[Entry]:
    """Every span of an export of traces."""
    return _entries(value, ("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), "spans")


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
                yield Entry(raw, attributes_of(raw.get("attributes")), shared)


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
    if isinstance(tree := value.get("arrayValue"), dict):
        return [plain(item, depth + 1) for item in objects(tree.get("values"))]
    if isinstance(tree := value.get("kvlistValue"), dict):
        pairs = objects(tree.get("values"))
        return {str(pair.get("key")): plain(pair.get("value"), depth + 1) for pair in pairs}
    return value
