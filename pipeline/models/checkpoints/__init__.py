"""Read weights files of every layout this project knows; the layout is found from the file's own keys."""
