"""Inspecting and changing state: first a plan as data, then what carries it out."""
