"""Programs made from a number, each with a right gradient and a wrong one: what jaxcheck says of them, as rates."""
