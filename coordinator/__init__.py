"""The coordinator: decides purely what runs next, and acts on it at the edge."""
