"""Stillwatch's judging side: is this API session harvesting the model, or organic use?"""

from serve.scorer import Scorer, load
from serve.session import Exchange, Session
from serve.verdict import Verdict

__all__ = ["Exchange", "Scorer", "Session", "Verdict", "load"]
