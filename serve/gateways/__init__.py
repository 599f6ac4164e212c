"""Gateways: what LiteLLM and OpenTelemetry report, read as requests and added to live sessions, each prompt once.

A report repeats the history of its conversation; `traffic.Traffic` finds what is new, by the rules that logs are
imported by. Nothing here knows HTTP: `serve.http.plug_ins` does. Others start at `traffic.Traffic`,
`litellm.guardrail_request`, `litellm.logged`, `traces.traced` and `settings.GatewaySettings`.
"""
