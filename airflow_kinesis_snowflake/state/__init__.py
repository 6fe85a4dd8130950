"""What an application knows about its shards: values, and how the rows of its table store them."""
