"""The review queue: sessions that wait for an analyst, and what was decided of them. It holds ids and verdicts, and
never a prompt. Needs the extra `app` (SQLAlchemy).

Others start at `queue.ReviewQueue` and `inbox.Inbox`.
"""
