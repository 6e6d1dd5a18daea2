"""The venue's rules as data: one module per step between a price and a socialised loss."""
