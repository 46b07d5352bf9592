"""Claims of the lectures as tests, by topic; ``recipes/claims.py`` runs them."""
