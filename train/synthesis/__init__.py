"""Synthesis: accounts and sessions of every kind, composed from the pool with a seed, their arrival times,
evasions, and the files they are written to.

Others start at `compose.Composer`, `composition.Composition`, `traffic_files.write_traffic` and `evasions.EVASIONS`.
"""
