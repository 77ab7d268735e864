"""The database's schema, step by step; `Store.open` applies what is missing."""
