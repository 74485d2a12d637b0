"""The stages strung together: load, render, observe, diff, plan, apply.

Every command is one of these strings. Must not: decide, print, or know which view shows the result.
"""
