"""This folder reads what the records of a batch say, by name, a block at a time where the format allows it."""
