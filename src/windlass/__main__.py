"""`python -m windlass` is the `windlass` command."""

from windlass.cli.main import run

if __name__ == "__main__":
    run()
