"""Torture: many workers of one application while everything goes wrong, and whether anything got lost.

Numbered records go into a stream whose shards split and merge. Workers drain it in processes of their own; they
are killed, paused past their leases and told to stop, at random instants and at chosen steps of a load, and what
they send to Kinesis, DynamoDB and Snowflake meets faults. At the end every number must have landed once, and in
order. ``python -m tests.torture --help`` says how to run it; a seed repeats the same choices, though the machine
decides how they interleave.
"""
