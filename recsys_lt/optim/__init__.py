"""Update rules: what is done with "give me the totals again", whatever the model and the loss."""
