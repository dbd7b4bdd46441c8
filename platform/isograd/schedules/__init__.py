"""Schedules as data, and their simulation. Neither Ray nor torch."""
