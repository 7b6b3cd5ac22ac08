"""The farm at work: a farmer claims tasks, its Pool of workers runs them."""
