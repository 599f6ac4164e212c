"""Rendering: pages from templates; how numbers, times and ids are written on all of them."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np

from serve.scoring.explanation import Sum
from serve.scoring.verdict_card import plain

PAGE_SUFFIX = ".html"
_ID_WIDTH, _SENTENCE_WIDTH = 64, 400


def render(template: str, **values: object) -> str:
    """A page from a template of this package; whatever stands in the values is text, never markup."""
    return _ENVIRONMENT.get_template(template).render(**values)


def check_page(path: Path) -> None:
    """Refuse a name that isn't a page's.

    Raises:
        ValueError: saying what was expected.
    """
    if path.suffix.lower() != PAGE_SUFFIX:
        raise ValueError(f"{path}: output file must end in {PAGE_SUFFIX}")


def shown_id(text: str) -> str:
    """An id as a page shows it: what can't be seen replaced, and a long one cut, with a digest that tells it apart."""
    if len(text) <= _ID_WIDTH:
        return plain(text, _ID_WIDTH)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{plain(text[:_ID_WIDTH], _ID_WIDTH)}… ({len(text):,} characters, sha256 {digest})"


def percent(share: float) -> str:
    """A share, with as many digits as tell it from none and from all."""
    if share < 0.001:
        return "< 0.1 %" if share else "0 %"
    return f"{share:.1%}".replace("%", " %") if share < 0.0995 else f"{share:.0%}".replace("%", " %")


def p_text(p_value: float) -> str:
    """A p-value to four places."""
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def when(seconds: float | None) -> str:
    """A time to the minute, UTC."""
    if seconds is None or np.isnan(seconds):
        return "unknown"
    return f"{datetime.fromtimestamp(math.floor(seconds), UTC):%Y-%m-%d %H:%M}"


def _clean(text: str) -> str:
    return plain(text, _SENTENCE_WIDTH)


def environment(*packages: str) -> jinja2.Environment:
    """Templates of these packages, in order; what stands in values is text, and a missing value is a fault."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "number": lambda value: f"{value:,}", "percent": percent, "p_text": p_text, "when": when, "id": shown_id,
        "clean": _clean, "json": json.dumps, "reached": lambda counts: int((counts > 0).sum()),
        "shown_sum": Sum.of,
    }  # fmt: skip
    return made


_ENVIRONMENT = environment("serve.analyst")
