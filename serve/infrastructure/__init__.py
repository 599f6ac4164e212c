"""Infrastructure: where accounts are used from, as logs that have it tell: addresses, keys, payment. It is read as
keyed hashes, and tells how firmly shared values tie accounts that ask alike. Nothing needs it.

Others start at `account_metadata.read_metadata` and `sharing.Sharing`.
"""
