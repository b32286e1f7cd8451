"""This folder writes what it is given to a file of one JSON object a line, and rotates it."""
