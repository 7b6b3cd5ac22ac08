"""`python -m taskfarmer`"""

from taskfarmer.cli.main import main

if __name__ == "__main__":
    main()
