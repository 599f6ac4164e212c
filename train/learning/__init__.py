"""Learning: everything that is fitted from one side of a split, and the bundle it is written to."""
