"""Embedding: texts to int8 vectors. The encoders, the cutting of texts that they share with the features, and
exact inner products of int8 vectors.

Others start at `encoders.Encoder`, `encoders.encode_unique` and `int8_products.Products`.
"""
