"""From the call to the `Problem` that is measured."""
