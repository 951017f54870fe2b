"""The web page. Everything that imports gradio lives here; it trains and parses nothing itself."""
