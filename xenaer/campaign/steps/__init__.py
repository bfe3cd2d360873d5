"""Steps of a campaign: their forms, program points, and how they are carried out."""
