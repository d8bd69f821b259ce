"""`python -m rankviz` is the command line."""

from rankviz.cli import main

if __name__ == "__main__":
    main()
