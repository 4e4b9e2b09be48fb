"""The commands of `deeplab-buckets`, a file for each. To add one: a file with a `command`, and a line here."""

COMMANDS = {
    "segment": "Segment every image of a bucket into Parquet masks.",
    "verify": "Recount an output, and set damaged files aside.",
    "report": "Write a report of an output: one HTML file to look at.",
    "compare": "Compare the masks of two outputs.",
    "export": "Hand masks on to other tools.",
    "select": "Choose the images of an output that are most worth labelling.",
    "models": "List the networks that --model takes by name.",
    "evaluate": "Score a model, or existing masks, on labelled pictures.",
    "search-crf": "Search the dense CRF's parameters on labelled pictures.",
    "train": "Train a network on labelled pictures.",
    "demo": "Segment generated scenes, with the truth beside them.",
    "train-scenes": "Train the built-in model of the demo on generated scenes.",
}
"""What each does, in a sentence. None is loaded before it is called."""

PROGRAM = "deeplab-buckets"
