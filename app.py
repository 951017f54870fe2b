"""Opens SFT Studio: what a Space runs, and `python app.py` in a source tree."""

import sys

from sft_ui.main import main

if __name__ == "__main__":
    sys.exit(main())
