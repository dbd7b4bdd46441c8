"""What is printed for people: plans, timelines, summaries."""
