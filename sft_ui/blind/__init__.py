"""The blind test on the page: votes on unnamed answers, the result, and a judge."""
