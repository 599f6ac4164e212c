"""Campaigns: accounts that harvest together. Sketches and fingerprints of accounts, the graph of similar ones,
communities as mixtures, what tells a campaign from a product's users, and the job that reads files and writes
campaigns.

Others start at `job.CampaignJob`, `job.run`, `campaign_files.read_campaigns` and `indicators`.
"""
