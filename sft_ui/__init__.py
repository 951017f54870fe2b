"""The page: everything that imports gradio lives here.

No training, no file formats and no model code: those are in trainer_backend.
"""
