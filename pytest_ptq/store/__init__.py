"""What is kept on disk: baselines that people review, and one record a run."""
