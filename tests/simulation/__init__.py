"""Simulated histories of an application: real drains, and models of Kinesis, DynamoDB and Snowflake.

The code of the package runs as it is, from the coordinator to the statements and conditional writes. What
it takes from the machine comes from here: threads are greenlets that a scheduler resumes in an order drawn
by chance, time is virtual, and the services answer, fail, forget and repeat as their documentation allows.
One seed gives one history, so whatever goes wrong can be seen again.
"""
