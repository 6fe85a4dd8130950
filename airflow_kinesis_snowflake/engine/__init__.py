"""The engine of a drain: reader, leases, batches, load and report. Takes hooks as arguments."""
