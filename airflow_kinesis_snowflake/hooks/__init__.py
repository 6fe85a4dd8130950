"""One thin class per outside system: connections and calls, no policy."""
