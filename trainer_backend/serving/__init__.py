"""The model process and its client: token view, token counts, chat and export for the app."""
