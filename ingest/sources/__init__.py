"""One module a source; each yields Documents and names what it left out."""
