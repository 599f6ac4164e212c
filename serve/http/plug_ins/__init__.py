"""Plug-ins: where gateways and tracers report requests, beside the service's own interface.

`app.create_app` mounts `routes.add_plug_ins`.
"""
