"""Which line of a hand-written backward pass is wrong: the pass flattened, and small changes of it tried."""
