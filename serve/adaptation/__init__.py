"""Adaptation: a bundle refitted to a provider's own benign traffic.

Others start at `adapt.Adaptation` and `adapt.adapt`.
"""
