"""How records become rows, files and SQL. Pure: no AWS and no Airflow."""
