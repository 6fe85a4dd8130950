"""Thin Airflow operators around the engine, maintenance, checks, audits and alerts."""
