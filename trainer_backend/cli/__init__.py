"""The commands of the command line. Each is one function that returns the exit code."""
