"""Features: the fixed, named row that the classifier reads. Scores of single prompts, how prompts relate to one
another, and the rows of whole sessions.

Others start at `session_features.observe`, `session_features.feature_rows`, `session_features.feature_names` and
`prompt_scorer.PromptScorer`.
"""
