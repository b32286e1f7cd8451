"""This folder follows log files: what is in a directory, which file is which, and how far each has been read."""
