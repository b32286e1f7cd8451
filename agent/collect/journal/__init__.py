"""This folder follows the journal through journalctl, from the entry that the spool holds last."""
