"""This folder reads the configuration, finds every fault in it, and keeps its secrets."""
