"""Corpora: the prompts that sessions are composed from. Descriptions of data sets, loading, the pool of all
prompts, and a starter corpus written for this project.

Others start at `loading.load_pool` and `pool.Pool`.
"""
