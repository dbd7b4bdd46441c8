"""What a run reports: events, running sums, and the sinks that take them."""
