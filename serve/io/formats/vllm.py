"""vLLM: lines of its server's log that show the prompt of each request, a filled chat template."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from serve.io.log_files.files import Log, Sample
from serve.io.logs.bodies import CUT, Refusal, outcome
from serve.io.logs.requests import NO_CONTENT, NOT_CHAT, Format, Outcome, Skipped, Talk
from serve.io.logs.talks import one_turn
from serve.io.logs.templates import template_talk
from serve.io.logs.values import as_object, text_of

OTHER_LINES = "other lines of the log"
_REQUEST = re.compile(r"(?:Received r|R)equest (?P<id>[\w.:-]{1,200})(?: details)?: prompt: (?P<prompt>.*)", re.DOTALL)
_AFTER = re.compile(r",\s*(?:params|sampling_params|prompt_token_ids|lora_request)\b")
_LITERALS = tuple(
    re.compile(rf"{quote}(?:[^{quote}\\]|\\.)*{quote}", re.DOTALL) for quote in ("'", '"')
)  # a Python repr in either quote


def _recognises(sample: Sample) -> float:
    if sample.kind == "lines":
        return 0.95 if any(_REQUEST.search(text_of(row.get("message"))) for row in sample.objects) else 0.0
    return 0.95 if sample.kind in ("text", "csv") and _REQUEST.search(sample.text) else 0.0


def _requests(log: Log) -> Iterator[Outcome]:
    for number, line in enumerate(log.lines(), 1):
        if not line.strip():
            continue
        found = _REQUEST.search(text_of(as_object(line).get("message")) or line)
        if found is None:
            yield Skipped(number, OTHER_LINES)
        else:
            yield outcome(number, _talk(found["id"], found["prompt"]), account_id=None)


def _talk(request_id: str, rest: str) -> Talk | Refusal:
    if request_id.startswith(("embd-", "embed", "score-", "rerank-", "pool", "classify-")):
        return Refusal(NOT_CHAT)
    if rest.startswith("None"):
        return Refusal(NO_CONTENT)
    literal = next((found for pattern in _LITERALS if (found := pattern.match(rest))), None)
    if literal is None or not _AFTER.match(rest, literal.end()):
        return CUT
    if "PoolingParams(" in rest[literal.end() : literal.end() + 200]:
        return Refusal(NOT_CHAT)
    try:
        prompt = ast.literal_eval(literal[0])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return CUT
    return template_talk(prompt) or (one_turn(prompt) if prompt.strip() else Refusal(NO_CONTENT))


FORMAT = Format("vllm_log", "vLLM server logs", _recognises, _requests)
