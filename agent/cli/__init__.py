"""This folder is the command line: one file a command, and nothing heavy imported before it is needed."""
