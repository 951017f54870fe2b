"""The comparison of runs as a part of the Runs tab."""
