"""Models, adapters and what the libraries say of them."""
