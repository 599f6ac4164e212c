"""HTTP: the service. The application, its schemas, what judges behind it, keys, limits, middleware, metrics and pages.

Others start at `app.create_app` and `server.run`.
"""
