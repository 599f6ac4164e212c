"""The bundle: the folder that training writes and serving reads, checked against its manifest before any parser
sees it.
"""
