"""Features: the fixed, named row that the classifier reads. Scores of single prompts, how prompts relate to one
another, and the rows of whole sessions.
"""
