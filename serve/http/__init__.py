"""HTTP: the service. The application, its schemas, keys, limits, middleware, metrics and pages."""
