"""This folder takes secrets and personal data out of logs: what to look for, and how it is found and removed."""
