"""This folder answers: the local HTTP endpoint."""
