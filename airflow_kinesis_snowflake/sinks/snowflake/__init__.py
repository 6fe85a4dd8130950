"""How records get into Snowflake: sessions, SQL, files, COPY and channels. Knows neither AWS nor Airflow."""
