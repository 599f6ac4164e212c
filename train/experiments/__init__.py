"""Experiments: training runs, the full exam, searches of settings, and the studies behind the README's numbers.

The commands of `train/` start at `run.main`, `full_exam`, `demo.main` and the like.
"""
