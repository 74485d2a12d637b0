"""recon: a declarative reconciler for GPU hosts. Holds the version and nothing else."""

__version__ = "0.1.0"
