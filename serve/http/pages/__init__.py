"""Pages: what analysts see of the service in a browser: the review queue, accounts, sessions, decisions, campaigns.

Others start at `routes.add_pages`.
"""
