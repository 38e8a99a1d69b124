"""Settings: read from the environment, a `.env` file, secret files and connections."""
