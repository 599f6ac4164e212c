"""The bundle: the folder that training writes and serving reads, checked against its manifest before any parser
sees it. `Bundle` reads one; `files` names what it holds, `manifest` verifies and lists it, `signature`
says who made it, `writing` writes it.
"""
