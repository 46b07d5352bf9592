"""``python -m selfsight``."""

import sys

from selfsight.cli import main

if __name__ == "__main__":
    sys.exit(main())
