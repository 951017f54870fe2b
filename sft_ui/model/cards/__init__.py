"""The cards beside the form: the estimate, what the settings mean, what differs or is wrong."""
