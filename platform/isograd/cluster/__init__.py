"""Ray clusters: connecting, placement, growth, failure."""
