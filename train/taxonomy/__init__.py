"""Taxonomy: capability areas, skills and examples as data in `conf/areas`, read, checked, and built into a map.

Others start at `areas.read_taxonomy` and `areas.build_map`.
"""
