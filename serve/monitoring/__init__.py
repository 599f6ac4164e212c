"""Monitoring: how far traffic has moved from what a bundle was made with."""
