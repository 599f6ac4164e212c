"""Stillwatch's judging side: is this API session harvesting the model, or organic use?"""

from serve.scoring.scorer import Scorer, load
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session

__all__ = ["Exchange", "Scorer", "Session", "Verdict", "load"]
