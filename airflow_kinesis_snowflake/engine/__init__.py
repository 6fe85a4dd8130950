"""The engine of a drain: reader, leases, batches, loads and report. Its ports are passed in."""
