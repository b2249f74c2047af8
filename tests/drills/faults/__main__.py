"""`python -m tests.drills.faults`: the drill, in the Python that runs."""

import sys

from tests.drills.faults.command import main

if __name__ == "__main__":
    sys.exit(main())
