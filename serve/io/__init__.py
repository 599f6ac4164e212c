"""Files in and out: which files hold exchanges, how each format is read, how rows are checked, how times are
parsed, and how tables are written whole or not at all. A log format is added here.

Others start at `discovery.discover`, `reading.read_paths`, `inputs.prepared`, `validation.SCHEMA`, `writers.writing`
and `writers.replacing`; what can't be read is a `discovery.InputError`.
"""
