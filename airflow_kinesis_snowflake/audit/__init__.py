"""Audits: whether what landed is exactly what was committed."""
