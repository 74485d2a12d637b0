"""The fault matrix on real hosts."""
