"""Disposable real hosts on this computer: systemd as PID 1, sshd, podman, and a GPU that is a small C library.

Must not: be needed by a plan or an apply; nothing outside `cli.lab`, tests, scripts and benchmarks imports it.
"""
