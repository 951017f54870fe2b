"""Settings that leave the form as files and come back, from files and from runs."""
