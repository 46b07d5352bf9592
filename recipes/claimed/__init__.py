"""Claims of the lectures as tests, by theme; ``recipes/claims.py`` runs them."""
