"""Stillwatch's judging side: is this API session harvesting the model, or organic use?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.scoring.scorer import Scorer, load
    from serve.scoring.verdict import Verdict
    from serve.sessions.records import Exchange, Session

__all__ = ["Exchange", "Scorer", "Session", "Verdict", "load"]

_HOMES = {
    "Exchange": "serve.sessions.records", "Session": "serve.sessions.records", "Scorer": "serve.scoring.scorer",
    "Verdict": "serve.scoring.verdict", "load": "serve.scoring.scorer",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that a command which judges nothing starts at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
