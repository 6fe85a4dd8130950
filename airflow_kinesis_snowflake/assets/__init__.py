"""What Airflow calls assets: streams and landing tables."""
