"""Inputs: what a run reads and prepares before it learns: prompts, split, encoder and capability map.

Others start at `prepared_inputs.prepare`.
"""
