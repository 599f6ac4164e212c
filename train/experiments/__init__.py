"""Experiments: training runs, the full exam, searches of settings, and the studies behind the README's numbers."""
