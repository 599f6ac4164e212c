"""Live sessions: sessions that grow exchange by exchange, judged after each. What is stored of them, sealed, in
this process or in Redis; never a text.

Others start at `growing_sessions.LiveSessions`, `stores.Store`, `process_store.ProcessStore` and
`redis_store.RedisStore`.
"""
