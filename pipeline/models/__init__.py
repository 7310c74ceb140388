"""Encoders: loading them, what they read, and their variants."""
