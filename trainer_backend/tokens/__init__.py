"""Rows to token ids, labels and batches: templates, masks, packing, collating, counting.

No model is known here.
"""
