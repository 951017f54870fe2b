"""The steps above the tabs, and the address of the page."""
