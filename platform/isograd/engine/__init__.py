"""What every executor runs: stages, the upward exchange, programs, blueprints."""
