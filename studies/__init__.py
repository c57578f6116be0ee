"""The questions this project answers, a folder each: the command, the data it left, and where its page is."""
