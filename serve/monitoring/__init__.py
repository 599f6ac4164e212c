"""Monitoring: how far traffic has moved from what a bundle was made with.

Others start at `traffic.Traffic`, `traffic.Reference` and `drift.drift`.
"""
