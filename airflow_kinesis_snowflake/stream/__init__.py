"""The concepts of Kinesis: positions, lineage, aggregation. Pure: no I/O and no Airflow."""
