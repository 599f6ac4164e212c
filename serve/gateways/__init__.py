"""Gateways: what LiteLLM, Portkey and OpenTelemetry report, read as requests and added to live sessions, each prompt
once.

A report repeats the history of its conversation; `traffic.Traffic` finds what is new, by the rules that logs are
imported by. Nothing of that knows HTTP: `serve.http.plug_ins` does. What is sent out is here, too: notices of sessions
that turn to harvesting. Others start at `traffic.Traffic`, `litellm.guardrail_request`, `litellm.logged`,
`portkey.webhook_request`, `traces.traced`, `settings.GatewaySettings`, `notices.Notices`, and the receivers
`webhook.Webhook`, `langfuse.Langfuse`, `phoenix.Phoenix` and `alertmanager.Alertmanager`.
"""
