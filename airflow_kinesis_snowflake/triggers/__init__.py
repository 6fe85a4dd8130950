"""What waits for an application in Airflow's triggerer."""
