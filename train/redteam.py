"""`python -m train.redteam`: how far each evasion gets a campaign, and what it costs."""

import sys

from train.experiments.redteam import main

if __name__ == "__main__":
    sys.exit(main())
