"""This folder measures what the agent costs, each figure beside something else run in the same minute."""
