"""Streams and landing tables as Airflow assets."""
