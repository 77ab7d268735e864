"""Input made up by the thousand: `make fuzz COUNT=10000`; the tests take a few dozen of each."""
