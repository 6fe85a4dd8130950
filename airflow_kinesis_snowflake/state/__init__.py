"""What an application knows of its shards: values, and how the rows of its table say them."""
