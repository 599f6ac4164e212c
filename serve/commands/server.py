"""`stillwatch serve`: verdicts over HTTP."""

from __future__ import annotations

import argparse

from serve.commands.command import DONE, Command
from serve.commands.options import add_bundle


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1; any other needs keys)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: 8080)")
    add_bundle(parser)
    parser.add_argument("--make-key", metavar="NAME", help="print a new API key and its entry for STILLWATCH_API_KEYS")
    parser.epilog = (
        "Environment: STILLWATCH_API_KEYS (NAME:SHA256,...), STILLWATCH_SECRET, STILLWATCH_REDIS_URL,"
        " STILLWATCH_RATE_LIMIT, _WORKERS, _QUEUE, _CONNECTIONS, _BODIES_MIB, _TTL_SECONDS, _STORE_MIB, _SEEN_SESSIONS,"
        " _ACCOUNT_HEADER; of gateways _GUARDRAIL_BLOCKS, _GUARDRAIL_SECONDS, _LITELLM_ACCOUNT, _PORTKEY_ACCOUNT,"
        " _TRACE_ACCOUNT;"
        " of notices _WEBHOOK, _WEBHOOK_SECRET, _LANGFUSE, _LANGFUSE_KEYS, _PHOENIX, _PHOENIX_KEY, _ALERTS;"
        " of the page at / STILLWATCH_REVIEW (the review queue: a file or a postgresql:// URL) and STILLWATCH_CAMPAIGNS"
        " (what campaigns wrote); STILLWATCH_REQUIRE_SIGNED is --require-signed. serve/README.md says what each does."
        " SIGHUP reloads the bundle."
    )


def _serve(options: argparse.Namespace) -> int:
    try:
        from serve.http.keys import ApiKeys, new_key
        from serve.http.server import run, settings_of
    except ImportError as fault:
        raise ImportError(f"serving needs: pip install 'stillwatch[app]' ({fault.name} is missing)") from fault

    if options.make_key is not None:
        key, digest = new_key()
        ApiKeys.parse(entry := f"{options.make_key}:{digest}")
        print(f"key    {key}\nentry  {entry}")
        return DONE
    run(settings_of(options.host, options.port, options.bundle))
    return DONE


SERVE = Command("serve", "answer over HTTP", _add_serve, _serve)
