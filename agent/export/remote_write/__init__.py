"""This folder sends metrics to Prometheus and what speaks its protocol: the request, and what the answers mean."""
