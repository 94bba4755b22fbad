"""What a measurement means: pure functions from measurement, limit and record to a verdict."""
