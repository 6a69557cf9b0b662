"""Patient-level privacy as the application sees it: what a run will cost, who agrees to it, and who has paid."""
