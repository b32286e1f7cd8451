"""This folder makes metrics of log records: which records, which series, and their numbers so far."""
