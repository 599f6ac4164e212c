"""Pages: what the service shows to analysts in a browser.

Others start at `routes.add_page`.
"""
