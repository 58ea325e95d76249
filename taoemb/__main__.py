"""`python -m taoemb` and the `taoemb` script; importing the command line takes a moment, and Ctrl-C may come then."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from taoemb.cli.main import main as run
    except KeyboardInterrupt:
        print("taoemb: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
