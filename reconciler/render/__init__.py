"""From a fleet to the bytes of every file. Must not: look at hosts, know a clock, write files."""
