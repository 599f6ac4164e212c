"""Following: files that grow, and folders that files come into, judged as they grow: each session once,
when it is over.

Others start at `follower.Following` and `follower.Follower`.
"""
