"""The fault matrix: which step can meet which fault, and what must come of it."""
