"""The outside: reaching hosts and reading what they say. Must not: decide what to change."""
