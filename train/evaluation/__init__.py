"""Evaluation: exam sessions that nothing was learned from, measures on them, published baselines, and the gates
that a new model must pass.
"""
