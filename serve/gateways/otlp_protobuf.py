"""OTLP in protobuf: an export of traces as the values that its JSON has, within a number of fields.

Only what requests are read from is decoded. A general library would build every message that a body may hold, of which
8 MiB can hold four million.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MAX_FIELDS = 250_000
_MAX_DEPTH = 60
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VALUE = 1 << 64


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field is called in JSON, and how it is read: as a scalar of this kind, or as a message of this name."""

    name: str
    kind: str
    is_list: bool = False


_MESSAGES: dict[str, dict[int, _Field]] = {
    "Export": {1: _Field("resourceSpans", "ResourceSpans", True)},
    "ResourceSpans": {1: _Field("resource", "Resource"), 2: _Field("scopeSpans", "ScopeSpans", True)},
    "Resource": {1: _Field("attributes", "KeyValue", True)},
    "ScopeSpans": {2: _Field("spans", "Span", True)},
    "Span": {
        1: _Field("traceId", "hex"), 2: _Field("spanId", "hex"), 5: _Field("name", "text"),
        7: _Field("startTimeUnixNano", "number"), 9: _Field("attributes", "KeyValue", True),
        11: _Field("events", "Event", True), 15: _Field("status", "Status"),
    },
    "Event": {2: _Field("name", "text"), 3: _Field("attributes", "KeyValue", True)},
    "Status": {3: _Field("code", "number")},
    "KeyValue": {1: _Field("key", "text"), 2: _Field("value", "AnyValue")},
    "AnyValue": {
        1: _Field("stringValue", "text"), 2: _Field("boolValue", "bool"), 3: _Field("intValue", "integer"),
        4: _Field("doubleValue", "double"), 5: _Field("arrayValue", "ArrayValue"),
        6: _Field("kvlistValue", "KeyValueList"),
    },
    "ArrayValue": {1: _Field("values", "AnyValue", True)},
    "KeyValueList": {1: _Field("values", "KeyValue", True)},
}  # fmt: skip


def export_of(data: bytes | bytearray, max_fields: int = MAX_FIELDS) -> dict[str, Any]:
    """An `ExportTraceServiceRequest`, as its JSON would be read.

    Raises:
        ValueError: when it is none, is nested too deeply, or has too many fields.
    """
    return _Reader(bytes(data), max_fields).message("Export", 0, len(data), 0)


def partial_success(n_rejected: int, text: str) -> bytes:
    """An `ExportTraceServiceResponse` that rejects so many spans; empty where there is nothing to say."""
    message = text.encode()
    inner = (b"\x08" + _varint(n_rejected) if n_rejected else b"") + (
        b"\x12" + _varint(len(message)) + message if message else b""
    )
    return b"\x0a" + _varint(len(inner)) + inner if inner else b""


def status(text: str) -> bytes:
    """A `google.rpc.Status` with this message, which OTLP answers a fault with."""
    message = text.encode()
    return b"\x12" + _varint(len(message)) + message


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


class _Reader:
    """One body, read from a place to a place; counts the fields it has read."""

    def __init__(self, data: bytes, max_fields: int) -> None:
        self._data, self._left = data, max_fields

    def message(self, kind: str, start: int, end: int, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields, found, place = _MESSAGES[kind], dict[str, Any](), start
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("too many fields")
            tag, place = self._number(place, end)
            field = fields.get(tag >> 3)
            value_at, place, number = self._span(tag & 7, place, end)
            if field is None:
                continue
            value = self._value(field.kind, tag & 7, (value_at, place), number, depth)
            if field.is_list:
                found.setdefault(field.name, []).append(value)
            else:
                found[field.name] = value
        return found

    def _number(self, place: int, end: int) -> tuple[int, int]:
        """A varint, and where it ends."""
        number = shift = 0
        while place < end and shift < 70:
            byte = self._data[place]
            place += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number % _VALUE, place
            shift += 7
        raise ValueError("cut short")

    def _span(self, wire: int, place: int, end: int) -> tuple[int, int, int]:
        """Where a value begins and ends, and the number that it is where it is a varint."""
        number = 0
        if wire == _VARINT:
            start = place
            number, place = self._number(place, end)
            return start, place, number
        if wire == _BYTES:
            length, place = self._number(place, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("of an unknown wire type")
        if length > end - place:
            raise ValueError("cut short")
        return place, place + length, number

    def _value(self, kind: str, wire: int, span: tuple[int, int], number: int, depth: int) -> Any:
        expected = {"number": (_VARINT, _FIXED64), "integer": (_VARINT,), "bool": (_VARINT,), "double": (_FIXED64,)}
        if wire not in expected.get(kind, (_BYTES,)):
            raise ValueError("a field has another wire type than expected")
        raw = self._data[span[0] : span[1]] if kind not in _MESSAGES else b""
        if kind == "text":
            return raw.decode()
        if kind == "hex":
            return raw.hex()
        if kind == "double":
            return struct.unpack("<d", raw)[0]
        if kind == "number":
            return int.from_bytes(raw, "little") if wire == _FIXED64 else number
        if kind == "integer":
            return number - _VALUE if number >= _VALUE >> 1 else number
        return bool(number) if kind == "bool" else self.message(kind, *span, depth + 1)
