"""SFTTrainer and what it is made of: loss, adapters, precision, batches, metrics.

No run folder is known here, and nothing of the app.
"""
