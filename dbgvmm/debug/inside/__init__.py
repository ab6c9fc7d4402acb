"""The monitor's own workings as data, for commands and scripts: units, the TC, why something happened."""
