"""`python -m train.seeds`: a compact filter of the prompts of public sets."""

import sys

from train.corpora.known_sets import main

if __name__ == "__main__":
    sys.exit(main())
