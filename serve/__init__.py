"""Stillwatch's judging side: is this API session harvesting the model, or organic use?"""

from serve.scoring.scorer import Scorer, load
from serve.sessions.records import Exchange, Session
from serve.scoring.verdict import Verdict

__all__ = ["Exchange", "Scorer", "Session", "Verdict", "load"]
