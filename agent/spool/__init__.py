"""This folder holds: one SQLite file is the truth about data, positions, cursors and counts."""
