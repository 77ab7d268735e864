"""The web side: JSON API, the page for asking, health and metrics. Parse, call the bot, render."""
