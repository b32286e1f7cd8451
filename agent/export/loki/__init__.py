"""This folder sends logs to Loki: the request, what its answers mean, and which entry a refusal is about."""
