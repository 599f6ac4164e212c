"""Files in and out: which files hold exchanges, how each format is read, how rows are checked, how times are
parsed, and how tables are written whole or not at all. A log format is added here.
"""
