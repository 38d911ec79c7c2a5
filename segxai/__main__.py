"""`python -m segxai` is `segxai`."""

from segxai.cli import main

if __name__ == "__main__":
    main()
