"""HTTP: the service. The application, its schemas, keys, limits, middleware, metrics and pages.

Others start at `app.create_app` and `server.run`.
"""
