"""Jobs without pause on real servers, with a random fault every few seconds: `make soak`."""
