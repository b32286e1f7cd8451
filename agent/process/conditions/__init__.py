"""This folder tells of which records conditions and expressions hold, for every processor that asks."""
