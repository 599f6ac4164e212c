"""Capability space: its areas, skills and cells, the classifier of areas, and how much of a space a session or
an account covers, and how evenly.

Others start at `capability_map.CapabilityMap`, `coverage.CellCounts` and `breadth.CoverageNull`; `vector_index` alone
imports faiss.
"""
