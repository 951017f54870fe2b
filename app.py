"""Opens SFT Studio from a source tree, as a Space does."""

import sys

from sft_ui.main import main

if __name__ == "__main__":
    sys.exit(main())
