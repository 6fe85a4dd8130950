"""Thin Airflow operators over the drain and maintenance rooms."""
