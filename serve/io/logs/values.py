"""Values: ids, times, JSON texts and nested fields of log rows, read leniently and without a traceback."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

_EARLIEST, _LATEST = -62_135_596_800.0, 253_402_300_800.0
_SCALES = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
"""Numbers up to the first of each pair are divided by the second: seconds, milliseconds, micro- and nanoseconds."""

_NUMBER = re.compile(r"[+-]?\d{1,25}(?:\.\d{0,12})?", re.ASCII)
_FORMS = ("%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %H:%M:%S")


def text_id(value: object) -> str | None:
    """An id as text, trimmed and in NFC; None where there is none. Numbers become text."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return str(value)
    if not isinstance(value, str):
        return None
    return unicodedata.normalize("NFC", encodable(value).strip()) or None


def first_id(*values: object) -> str | None:
    """The first of these ids that is one."""
    return next((name for name in map(text_id, values) if name is not None), None)


def encodable(text: str) -> str:
    """The text with a replacement character for every lone surrogate."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if _has_surrogate(text) else text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def seconds(value: object) -> float:
    """A time in seconds since 1970, from a number in any common unit or a text; NaN where it can't be read.

    A time without an offset is UTC.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, int | float):
        return _scaled(value)
    return _text_seconds(value.strip()) if isinstance(value, str) and len(value) < 80 else math.nan


def _scaled(value: float) -> float:
    if not abs(value) < 1e20:
        return math.nan
    scaled = value / next(scale for limit, scale in _SCALES if abs(value) < limit)
    return scaled if _EARLIEST <= scaled < _LATEST else math.nan


def _text_seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return _scaled(float(text))
    if text[-4:].upper() in (" UTC", " GMT"):
        text = text[:-4]
    try:
        moment = datetime.fromisoformat(text.replace(" +", "+").replace(" Z", "Z"))
    except ValueError:
        return _other_form(text)
    return _within(moment)


def _other_form(text: str) -> float:
    for form in _FORMS:
        try:
            return _within(datetime.strptime(text, form))
        except ValueError:
            continue
    return math.nan


def _within(moment: datetime) -> float:
    try:
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
    return found if _EARLIEST <= found < _LATEST else math.nan


def parse_json(text: str) -> Any:
    """A JSON value.

    Raises:
        ValueError: when it isn't one, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as fault:
        if isinstance(fault, json.JSONDecodeError):
            raise
        return json.loads(text, parse_int=_short_int)


def _short_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else math.inf


def nested(value: object, *names: str) -> Any:
    """The value at a path of names, None where the path ends early."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none where it isn't a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_object(value: object) -> dict[str, Any]:
    """An object, also where it is written as JSON text; an empty one where there is none."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = parse_json(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def first_time(row: dict[str, Any], *names: str) -> float:
    """The first readable time among these fields, NaN where there is none."""
    times = (seconds(row.get(name)) for name in names)
    return next((at for at in times if not math.isnan(at)), math.nan)
