"""Logs: requests to a model as gateways, tracers and agents store them, turned into exchanges that are counted once.

A log file is opened by `serve.io.log_files`, its rows become requests (`requests`; the formats are in
`serve.io.formats`), and the requests of each account are followed as threads (`threads`), so that the history that
every request repeats counts once.
"""
