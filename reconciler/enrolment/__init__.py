"""How a machine becomes a host, how hosts are checked, and how what runs there already becomes a coven.

Must not: ask a person or print; both come in as functions.
"""
