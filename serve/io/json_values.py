"""JSON values: texts parsed leniently in what nobody reads (long integers, deep nesting), strictly in what is meant."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

_MAX_DEPTH = 100
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
"""Strings and brackets. A string that never ends reaches to the end of the text, so that none is looked at twice."""
_MAX_DIGITS = 100


REPEATED = "a key comes twice"
NOT_JSON = "not JSON"


class RepeatedKeyError(ValueError):
    """An object names a key twice, so that two readers may see two objects."""


def parse_json(text: str) -> Any:
    """A JSON value; integers of a hundred digits or more are infinite, and what is nested too deeply is null.

    Raises:
        RepeatedKeyError: when an object has a key twice.
        ValueError: when it is no JSON.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        return _deep(text)
    except (json.JSONDecodeError, RepeatedKeyError):
        raise
    except ValueError:  # an integer with more digits than int() takes
        return _LENIENT.decode(text)


def parse_json_at(text: str, place: int) -> tuple[Any, int]:
    """The JSON value that begins at a place, and where it ends.

    Raises:
        ValueError: as `parse_json` does, or when the value is nested too deeply.
    """
    try:
        return _DECODER.raw_decode(text, place)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (json.JSONDecodeError, RepeatedKeyError):
        raise
    except ValueError:
        return _LENIENT.raw_decode(text, place)


def json_fault(fault: Exception) -> str:
    """Why a text couldn't be parsed; never quotes it."""
    return REPEATED if isinstance(fault, RepeatedKeyError) else NOT_JSON


def _deep(text: str) -> Any:
    try:
        return _LENIENT.decode("".join(_shallow(text)))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _shallow(text: str) -> Iterator[str]:
    """The parts of a text without what is nested deeper than `_MAX_DEPTH`."""
    depth = start = 0
    for token in _TOKENS.finditer(text):
        sign = text[token.start()]
        if sign in "[{":
            depth += 1
            if depth == _MAX_DEPTH:
                yield text[start : token.start()]
        elif sign in "]}":
            if depth == _MAX_DEPTH:
                yield "null"
                start = token.end()
            depth -= 1
    if depth < _MAX_DEPTH:
        yield text[start:]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKeyError(REPEATED)
    return found


def _short_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_LENIENT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_short_int)
