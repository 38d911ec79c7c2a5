"""The command `python -m segxai`, which is the same as `segxai`."""

from segxai.cli import main

if __name__ == "__main__":
    main()
