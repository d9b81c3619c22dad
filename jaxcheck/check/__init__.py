"""From a call to its report: the doors, and the walk behind them."""
