"""What a log store promises, and the stores that keep it."""
