"""Capability space: its areas, skills and cells, the classifier of areas, and how much of a space a session or
an account covers, and how evenly.
"""
