"""Notifiers: how alerts reach people."""
