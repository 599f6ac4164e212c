"""Batch scoring: files of exchanges in, files of verdicts and accounts out, resumable."""
