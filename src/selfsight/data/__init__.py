"""Images and what is true of them; views of them. Nothing here knows how features are learnt."""
