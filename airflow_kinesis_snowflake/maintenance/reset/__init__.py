"""Changing where an application goes on: one module per method, and what all of them share."""
