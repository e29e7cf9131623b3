"""`tuneoff serve`: studies of a folder in a browser, on this machine alone and for reading alone."""
