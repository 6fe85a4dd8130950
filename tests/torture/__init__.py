"""Torture: many workers of one application while everything goes wrong, and whether anything got lost.

Numbered records go into a stream whose shards split and merge. Workers drain it in processes of their own.
They are killed, paused past their leases, told to stop, and started twice, at random instants and at chosen
steps of a load; what they send to Kinesis, DynamoDB and Snowflake meets faults. At the end every number must
have landed once, and in order. ``python -m tests.torture --help`` says how to run it. A seed repeats the
choices; how the processes interleave is up to the machine, so a run that fails leaves a journal of what
happened when.
"""
