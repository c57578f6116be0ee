"""From ranks and recommended lists to numbers: ranking, long tail, popularity bias."""
