"""Latency and throughput of classifiers, side by side on one machine."""
