"""Where pictures come from: sources, their formats, and labelled data."""
