"""For analysts: pages of verdicts, accounts and the capability map, and feedback on verdicts. Templates lie
beside the code.

Others start at `report.write_report`, `map_page.write_map`, `feedback.Feedback` and `rendering.render`.
"""
