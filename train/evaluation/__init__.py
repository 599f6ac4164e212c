"""Evaluation: held-out exam sessions, measures on them, published baselines, and the gates
that a new model must pass.

Others start at `exam.exam_table`, `quality.rates`, `thresholds.fpr_limit` and `baselines.BASELINES`.
"""
