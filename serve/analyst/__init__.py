"""For analysts: pages of verdicts, accounts and the capability map, and feedback on verdicts. Templates lie
beside the code.
"""
