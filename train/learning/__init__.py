"""Learning: everything that is fitted from one side of a split, and the bundle it is written to.

Others start at `split.folds`, `model.learn`, `table.Table` and `bundling.write_bundle`.
"""
