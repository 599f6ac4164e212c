"""Formats: one file each says how a log of that format is recognised and what requests it holds.

To add one, write such a file and name it in `FORMATS`; README.md shows how.
"""

from __future__ import annotations

from serve.io.formats import (
    aider,
    anthropic_messages,
    azure_apim,
    bedrock,
    chatgpt_export,
    claude_code,
    codex,
    columns,
    helicone,
    kong,
    langfuse_observations,
    langfuse_traces,
    litellm,
    lmsys,
    openai_batch,
    openai_chat,
    openai_responses,
    openrouter,
    otlp_genai,
    otlp_genai_events,
    portkey,
    sharegpt,
    specstory,
    vllm,
    wildchat,
)  # fmt: skip
from serve.io.log_files.files import Sample
from serve.io.logs.requests import Format

FORMATS: tuple[Format, ...] = (
    litellm.FORMAT,
    langfuse_observations.FORMAT,
    langfuse_traces.FORMAT,
    helicone.FORMAT,
    openrouter.FORMAT,
    otlp_genai.FORMAT,
    otlp_genai_events.FORMAT,
    bedrock.FORMAT,
    azure_apim.FORMAT,
    kong.FORMAT,
    portkey.FORMAT,
    openai_batch.FORMAT,
    openai_responses.FORMAT,
    anthropic_messages.FORMAT,
    claude_code.FORMAT,
    codex.FORMAT,
    wildchat.FORMAT,
    lmsys.FORMAT,
    sharegpt.FORMAT,
    chatgpt_export.FORMAT,
    aider.FORMAT,
    specstory.FORMAT,
    vllm.FORMAT,
    openai_chat.FORMAT,
    columns.FORMAT,
)
"""All formats; of two that a log looks like to the same share, the first is taken."""


def recognise(sample: Sample) -> Format | None:
    """The format that most of a sample looks like, None where none does."""
    shares = [(form.recognises(sample), -place) for place, form in enumerate(FORMATS)]
    share, place = max(shares)
    return FORMATS[-place] if share > 0.0 else None


def by_name(name: str) -> Format:
    """The format of this name.

    Raises:
        ValueError: when there is none.
    """
    for form in FORMATS:
        if form.name == name:
            return form
    raise ValueError(f"format is {name!r}, expected one of {', '.join(form.name for form in FORMATS)}")
