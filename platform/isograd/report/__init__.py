"""What a run reports: events, metrics, their sinks."""
