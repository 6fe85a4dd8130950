"""Turns the bytes of a record into documents. Pure: no SQL, no Airflow, no network."""
