"""The nouns: desired, observed, rendered, plan, intent, outcome. Must not: do I/O, read a clock, decide."""
