"""Batch scoring: files of exchanges in, files of verdicts and accounts out, resumable.

Others start at `job.Job` and `job.run`.
"""
