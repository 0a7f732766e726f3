"""The `official` edition: the published rows of nvidia/SPEED-Bench, their prompts fetched from where they are from."""
