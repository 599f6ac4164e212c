"""For analysts: pages of verdicts, accounts and the capability map, and the review queue of what was flagged. Templates
lie beside the code.

Others start at `report.write_report`, `map_page.write_map`, `labelled_corpora.export` and `rendering.render`.
"""
