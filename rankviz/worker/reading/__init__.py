"""Short-lived children that read what comes from outside, without torch: adapters, data files, exported runs."""
