"""This folder counts errors by kind: what kind one is, and which are the most frequent."""
