"""The monitoring page in Airflow's UI, and its data.

The page is built from what drains leave behind: their reports and progress (XComs), the state of their task
instances, and the application's DynamoDB table. Loading it calls neither Kinesis nor Snowflake.

``history`` reads Airflow's database and ``state_reader`` DynamoDB; ``drains``, ``many_streams``, ``health``,
``shard_status`` and ``drawing`` decide what all that means and are pure; ``backlog_status`` asks Kinesis on
request; ``view`` puts it together, ``app`` serves it, ``access`` guards it, and ``plugin`` is what Airflow
loads.
"""
