"""`python -m reconciler`: the same as `recon`."""

from reconciler.cli.app import main

if __name__ == "__main__":
    main()
