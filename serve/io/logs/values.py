"""Values: ids, times, JSON texts and nested fields of log rows, read leniently and without a traceback."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

from serve.io.json_values import parse_json
from serve.io.timestamps import seconds
from serve.sessions.prompt_text import storable


def text_id(value: object) -> str | None:
    """An id as text, trimmed and in NFC; None where there is none. Numbers become text."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return str(value)
    if not isinstance(value, str):
        return None
    return unicodedata.normalize("NFC", storable(value).strip()) or None


def own_id(text: str) -> str:
    """An id that is a text, trimmed and in NFC.

    Raises:
        ValueError: when nothing is left.
    """
    if (found := text_id(text)) is None:
        raise ValueError("an id is blank")
    return found


def first_id(*values: object) -> str | None:
    """The first of these ids that is one."""
    return next((name for name in map(text_id, values) if name is not None), None)


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


def text_of(value: object) -> str:
    """A text; empty where it is something else."""
    return value if isinstance(value, str) else ""


def first_time(row: dict[str, Any], *names: str) -> float:
    """The first readable time among these fields, NaN where there is none."""
    times = (seconds(row.get(name)) for name in names)
    return next((at for at in times if not math.isnan(at)), math.nan)
