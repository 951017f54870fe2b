"""A run as files to take away: adapter, merged model, GGUF file, script."""
