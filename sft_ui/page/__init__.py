"""The page as a whole: its parts, and the events between tabs about settings."""
