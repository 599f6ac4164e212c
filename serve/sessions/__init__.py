"""Sessions: what a client sent. Exchanges and sessions as records, how exchanges are cut into sessions, how a
text is normalised before it is read, and the size classes that sessions are compared in. Everything else builds
on this room.

Others start at `records.Session`, `records.Sessions`, `sessionizing.Timeline`, `canonical_text.canonical`,
`normalization.canonical_sessions` and `size_classes.size_class`.
"""
