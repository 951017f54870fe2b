"""Groups of runs that try several values of a few settings."""
