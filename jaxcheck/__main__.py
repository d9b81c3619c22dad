"""`python -m jaxcheck` is the same as the `jaxcheck` command."""

from jaxcheck.cli import main

if __name__ == "__main__":
    main()
