"""Runs the command line as `python -m rankviz`."""

from rankviz.cli import main

if __name__ == "__main__":
    main()
