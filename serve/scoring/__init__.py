"""Scoring: sessions in, verdicts with reasons out; verdicts rolled up to accounts, a test that may be looked at
after every session, and the files that verdicts are written to. `serve` itself exports the scorer.

Others start at `scorer.load`, `scorer.Scorer`, `verdict.Verdict`, `verdict.Verdicts` and `accounts.roll_up`.
"""
