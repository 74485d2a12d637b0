"""What was done, by whom, from which commit. Must not: change a host."""
