"""``python -m llmsched``: the command ``llmsched``."""

from llmsched.command import main

if __name__ == "__main__":
    main()
