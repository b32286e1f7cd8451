"""This folder is what the agent says of itself: lines on standard error, in the journal and in files, and the audit."""
