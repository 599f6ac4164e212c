"""Campaigns: accounts that harvest together. Sketches and fingerprints of accounts, the graph of similar ones,
communities as mixtures, what tells a campaign from a product's users, and the job that reads files and writes
campaigns.
"""
