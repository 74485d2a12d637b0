"""The program that runs on a host. Standard library only, Python 3.9 or later; imports nothing else of ours."""
