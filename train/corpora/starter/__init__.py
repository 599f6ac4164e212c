"""Prompts written for this project, as grammars, so that a machine without other data trains something useful."""
