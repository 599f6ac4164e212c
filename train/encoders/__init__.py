"""Encoders: which encoder a run uses, the distillation of a static one from MiniLM, and vectors computed once a
run.

Others start at `prompt_cache.PromptCache` and `static_encoder.static_folder`.
"""
