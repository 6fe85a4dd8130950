"""Bad days for Kinesis, DynamoDB and Snowflake: a proxy between a worker and a service, and what it may do.

The fixtures ``kinesis_proxy``, ``dynamodb_proxy`` and ``snowflake_proxy`` put proxies in front of the local
services and lead Airflow's default connections through them::

    def test_a_throttled_shard_is_read_later(kinesis_proxy):
        rule = kinesis_proxy.add(aws_error(THROTTLED), operation="GetRecords", shard_id=shard, times=3)
        ...
        assert rule.hits == 3

Any number of processes can use a proxy; :func:`tests.faults.detours.through` makes connections for them.
"""
