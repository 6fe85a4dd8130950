"""What Kinesis means: positions, lineage, aggregation. Pure: no I/O and no Airflow."""
