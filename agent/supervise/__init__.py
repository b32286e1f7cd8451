"""This folder runs the agent: opens downstream first, drains upstream first, and answers to systemd."""
