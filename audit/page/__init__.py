"""The audit's report as one HTML page for people who read no logs."""
