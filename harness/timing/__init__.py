"""Timelines, measurements, and the gate."""
