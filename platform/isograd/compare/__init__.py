"""Training methods against each other under equal budgets, and the tables of it."""
