"""This folder is formats: bytes in, values out; no socket, clock or logger."""
