"""The Slack side: listeners put what came in into the inbox, workers answer from it."""
