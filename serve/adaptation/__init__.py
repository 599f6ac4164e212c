"""Adaptation: a bundle refitted to a provider's own benign traffic."""
