"""Taxonomy: capability areas, skills and examples as data in `conf/areas`, read, checked, and built into a map."""
